// `node dist/vmm/process/check.js` reads a definition from standard input and prints what would keep
// it from working, as JSON: codes and details of the table of errors. No machine is made and no image
// locked: a VM that is being started meanwhile is not disturbed.
import { text } from "node:stream/consumers";
import { parse, VmDefinition } from "../../api-schema/index.js";
import { faultsOf } from "../check.js";
import { namedFiles } from "../host-files.js";

const definition = parse(VmDefinition, JSON.parse(await text(process.stdin)), "definition");
const faults = await faultsOf(
  definition,
  namedFiles(() => true),
);
process.stdout.write(JSON.stringify(faults.map(({ code, details }) => ({ code, details }))));
