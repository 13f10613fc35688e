// Prints what this host can run a VM on, as JSON. A program of its own, so that who asks (the
// daemon) never loads the VM core, and survives whatever a probe of the host does.
import { acceleratorInfo } from "../../native/index.js";

const accelerators = acceleratorInfo();
const names = accelerators.map(({ name }) => name).join(", ");
const chosen = accelerators.find(({ usable }) => usable);
if (chosen === undefined) throw new Error(`none of ${names} can be used on this host`);

const reason = `the first of ${names} that can be used: ${chosen.reason}`;
process.stdout.write(
  `${JSON.stringify({ accelerators, chosen: { name: chosen.name, reason } })}\n`,
);
