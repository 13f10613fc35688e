// Guests of a few instructions, assembled here: Multiboot kernels with address fields, entered in
// 32-bit protected mode with flat segments (Multiboot Specification 0.6.96, §3.1 and §3.2).

const MAGIC = 0x1bad_b002;
const ADDRESS_FIELDS = 0x1_0000;
const LOAD = 0x10_0000;
const HEADER_BYTES = 32;

const COM1 = 0x3f8;
const LINE_STATUS = COM1 + 5;
const PM1_CONTROL = 0x404;
// SLP_TYP 5, as the DSDT's \_S5 says, with SLP_EN (ACPI 6.5 §4.8.3.2).
const POWER_OFF = (5 << 10) | (1 << 13);
const RESET_CONTROL = 0xcf9;
const FULL_RESET = 0x06;

type Code = readonly number[];

const low16 = (value: number): Code => [value & 0xff, (value >> 8) & 0xff];
const low32 = (value: number): Code => [...low16(value), ...low16(value >>> 16)];

const movDx = (port: number): Code => [0x66, 0xba, ...low16(port)];
const outByte = (port: number, value: number): Code => [0xb0, value, ...movDx(port), 0xee];
const outWord = (port: number, value: number): Code => [
  ...[0x66, 0xb8, ...low16(value)],
  ...movDx(port),
  ...[0x66, 0xef],
];
const print = (text: string): Code =>
  [...Buffer.from(text, "latin1")].flatMap((byte) => outByte(COM1, byte));

/** Both 8259s masked, interrupts on, HLT for ever. */
const idle: Code = [...outByte(0x21, 0xff), ...outByte(0xa1, 0xff), 0xfb, 0xf4, 0xeb, 0xfd];
const cliHlt: Code = [0xfa, 0xf4];
/** mov ecx, rounds; loop to itself. */
const delay = (rounds: number): Code => [0xb9, ...low32(rounds), 0xe2, 0xfe];

/** LIDT of six zero bytes, which this jumps over, and INT3: no gate for that, nor for the faults. */
const tripleFault: Code = [
  ...[0xeb, 0x06, 0, 0, 0, 0, 0, 0], // jmp +6; limit 0, base 0
  ...[0xe8, 0, 0, 0, 0, 0x58], // call +0; pop eax: the address of the pop
  ...[0x0f, 0x01, 0x58, 0xf5], // lidt [eax - 11]
  0xcc,
];
/** CALL needs a stack. */
const stack: Code = [0xbc, ...low32(0x9_0000)]; // mov esp

const jumpBack = (body: Code): Code => [...body, 0xe9, ...low32(-(body.length + 5))];

/** Until a bit of LSR is set, by polling; the bit is 1 for DR, 0x20 for THRE. Takes AL and DX. */
const awaitLine = (bit: number): Code => [
  ...movDx(LINE_STATUS),
  ...[0xf3, 0x90, 0xec, 0xa8, bit, 0x74, 0xf9], // pause; in al, dx; test al, bit; jz back
];
/** AL to COM1 when it has room for it: who does not look loses what comes too fast. Takes AH, DX. */
const send: Code = [
  ...[0x88, 0xc4], // mov ah, al
  ...awaitLine(0x20),
  ...movDx(COM1),
  ...[0x88, 0xe0, 0xee], // mov al, ah; out dx, al
];

/** The period of the counting guests' output. */
export const PERIOD = 251;
/** Byte i of the output is i modulo PERIOD; `rounds` of an empty loop between two. */
const count = (rounds: number): Code => [
  ...[0x31, 0xdb], // xor ebx, ebx
  ...jumpBack([
    ...[0x88, 0xd8], // mov al, bl
    ...send,
    ...[0xfe, 0xc3], // inc bl
    ...[0x80, 0xfb, PERIOD, 0x75, 0x02, 0x31, 0xdb], // cmp bl, 251; jne +2; xor ebx, ebx
    ...delay(rounds),
  ]),
];

/** Reads COM1 by polling and writes back what it got. */
const echo: Code = jumpBack([
  ...awaitLine(0x01),
  ...movDx(COM1),
  0xec, // in al, dx
  ...send,
]);

function kernel(...parts: Code[]): Buffer {
  const header = [
    ...[MAGIC, ADDRESS_FIELDS, -(MAGIC + ADDRESS_FIELDS)],
    ...[LOAD, LOAD, 0, 0, LOAD + HEADER_BYTES], // header, load, load end, bss end, entry
  ];
  return Buffer.from([header.flatMap(low32), ...parts].flat());
}

export const guests = {
  /** Prints and sleeps. */
  hello: kernel(print("hello\r\n"), idle),
  powerOff: kernel(print("bye\r\n"), outWord(PM1_CONTROL, POWER_OFF), idle),
  /** Prints and resets, after a moment: for ever. */
  reset: kernel(print("again\r\n"), delay(5_000_000), outByte(RESET_CONTROL, FULL_RESET), idle),
  tripleFault: kernel(print("oops\r\n"), stack, tripleFault),
  /** As above, about a second after the start. */
  powerOffLate: kernel(delay(100_000_000), outWord(PM1_CONTROL, POWER_OFF), idle),
  tripleFaultLate: kernel(delay(100_000_000), stack, tripleFault),
  halt: kernel(print("halt\r\n"), cliHlt),
  echo: kernel(print("ready\r\n"), echo),
  count: kernel(count(20_000)),
  /** About a hundred times as fast. */
  flood: kernel(count(150)),
} as const;

export type Guest = keyof typeof guests;
