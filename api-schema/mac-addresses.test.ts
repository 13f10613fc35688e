import { expect, it } from "vitest";
import { parse, VmDefinition } from "./index.js";
import { cardAddresses, derivedMac, macTakenBy, macTakenWithin } from "./mac-addresses.js";

const UUID = "11111111-2222-4333-8444-555555555555";
const OTHER = "11111111-2222-4333-8444-555555555556";

const definition = (uuid: string, cards: readonly object[]): VmDefinition =>
  parse(VmDefinition, {
    ...{ name: uuid === UUID ? "one" : "other", uuid, memory: 2 ** 24, cpus: 1 },
    boot: { kind: "linux", kernel: "/k" },
    devices: cards.map((card) => ({ type: "virtio-net", backend: { kind: "none" }, ...card })),
  });

it("derives addresses that are local, unicast, and differ by VM and slot", () => {
  const all = [UUID, OTHER].flatMap((uuid) => ["2", "3:0"].map((slot) => derivedMac(uuid, slot)));
  expect(new Set(all).size).toBe(4);
  for (const mac of all) {
    expect(mac).toMatch(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    expect(Number.parseInt(mac.slice(0, 2), 16) & 3).toBe(2);
  }
});

it("derives the same however UUID and slot are written", () => {
  const upper = derivedMac("ABCDEF01-2222-4333-8444-555555555555", "0:2:0");
  expect(derivedMac("abcdef01-2222-4333-8444-555555555555", "2")).toBe(upper);
});

it("finds what two cards have, given or derived, and says where", () => {
  const derived = derivedMac(UUID, "2:0").toUpperCase();
  const one = definition(UUID, [{ slot: "2:0" }, { slot: "3:0", mac: derived }]);
  expect(cardAddresses(one).map(({ mac }) => mac)).toEqual(Array(2).fill(derived.toLowerCase()));
  expect(macTakenWithin(one)?.message).toBe(
    `the MAC address ${derived.toLowerCase()} of devices[1] is taken by the card in slot 2:0`,
  );
  const other = definition(OTHER, [{ slot: "4:0" }, { slot: "5:0", mac: derived }]);
  expect(macTakenBy(other, one)?.details).toEqual([
    derived.toLowerCase(),
    "devices[1]",
    "the VM one (its card in slot 2:0)",
  ]);
  expect(macTakenWithin(other)).toBeUndefined();
  expect(macTakenBy(definition(OTHER, [{ slot: "2:0" }]), one)).toBeUndefined();
});
