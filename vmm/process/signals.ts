// SIGTERM is the power button once the guest listens; a second one, or the time limit, stops. The
// hang-up of a terminal and an interrupt from the keyboard mean the same.
import type { VirtualMachine } from "../machine.js";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** `onStop` is told which signal ended the VM without the guest's help. */
export function handleSignals(
  vm: VirtualMachine,
  onStop: (signal: NodeJS.Signals) => void = () => {},
): () => void {
  let pressed = false;
  const handle = (signal: NodeJS.Signals): void => {
    const ask = !pressed && vm.acpiEnabled;
    pressed = true;
    if (!ask) onStop(signal);
    // Refused where the VM has ended meanwhile: then all is done.
    (ask ? vm.shutdown() : vm.stop()).catch(() => {});
  };
  for (const signal of SIGNALS) process.on(signal, handle);
  return () => {
    for (const signal of SIGNALS) process.off(signal, handle);
  };
}
