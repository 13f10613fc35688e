// The program of one VM: `node dist/vmm/process/main.js FOLDER [NONCE]`. See api-schema/vm-process.ts. All
// code is loaded by these imports, before anything runs: an upgrade may replace the files.
import { host } from "../../native/host.js";
import { createMachine } from "../../native/index.js";
import { VERSION } from "../version.js";
import { become } from "./rights.js";
import { runProcess, tell } from "./run.js";

const [folder, nonce] = process.argv.slice(2);
if (folder === undefined) {
  process.stderr.write("usage: main.js RUNTIME_FOLDER [NONCE]\n");
  process.exit(64);
}
process.title = "xhyve-vm";
runProcess(folder, {
  tryLock: (fd) => host().lockFile(fd),
  lockFile: (fd, shared) => host().lockFile(fd, shared),
  receiveDescriptors: (socket, most) => host().receiveDescriptors(socket, most),
  openPty: () => host().openPty(),
  become,
  confine: (profile) => host().confine(process.platform === "darwin" ? profile() : ""),
  createMachine,
  version: VERSION,
  nonce,
}).then(
  (status) => process.exit(status),
  (error: unknown) => {
    tell(error);
    process.exit(1);
  },
);
