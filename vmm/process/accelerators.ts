// Prints what this host can run a VM on, as JSON. A program of its own, so that who asks (the
// daemon) never loads the VM core, and survives whatever a probe of the host does.
import { acceleratorInfo, automaticAccelerator } from "../../native/index.js";

const accelerators = acceleratorInfo();
const { name, reason } = automaticAccelerator();
process.stdout.write(`${JSON.stringify({ accelerators, chosen: { name, reason } })}\n`);
