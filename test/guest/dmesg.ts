// What a guest's kernel log may not hold: the bar that every boot in the tests is held to.

const FORBIDDEN: readonly RegExp[] = [
  /\bWARNING\b/,
  /\bwarning:/i,
  /Call Trace/,
  /\bBUG\b/,
  /\bOops\b/,
  /Kernel panic/,
  /ACPI (BIOS )?(Error|Warning|Exception)/,
  /\[Firmware (Bug|Warn)\]/,
  /calibration failed|failed to calibrate|could not calibrate|Unable to calibrate/i,
  /unstable/i,
  /soft lockup|hard LOCKUP|rcu.*stall|hung_task|blocked for more than/i,
  /lost .* (interrupt|tick)|No irq handler|nobody cared|spurious .* interrupt/i,
  /general protection|unhandled|unchecked MSR access/i,
  /\berror\b/i,
  /\bfail(ed|ure)?\b/i,
];

/** Lines that name one of these words and mean no harm, each with the reason. */
const HARMLESS: readonly { readonly line: RegExp; readonly because: string }[] = [
  {
    line: /use "pci=nocrs" and report a bug/,
    because: "Linux's standing advice, printed for every ACPI host bridge",
  },
  { line: /alg: self-tests .* passed/, because: "a self-test's success" },
  {
    line: /Error: Driver .* is already registered/,
    because: "two built-in drivers of one name, on any machine",
  },
];

/** The lines of a kernel log that break the bar. */
export const dmesgProblems = (log: string): string[] =>
  log
    .split(/\r?\n/)
    .filter((line) => FORBIDDEN.some((word) => word.test(line)))
    .filter((line) => !HARMLESS.some(({ line: known }) => known.test(line)));
