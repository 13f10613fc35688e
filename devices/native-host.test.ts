// The same devices on the bus that they are made for: what the fake allows, the real one must too.
import { afterEach, expect, it } from "vitest";
import { createMachine } from "../native/index.js";
import type { Machine } from "../native/types.js";
import { AcpiPmDevice } from "./acpi-pm/adapter.js";
import { DebugExit } from "./debugexit/model.js";
import { DeviceSet } from "./device.js";
import { hostBridge } from "./hostbridge/model.js";
import { I8042Device } from "./i8042/adapter.js";
import { lpcBridge } from "./lpc/model.js";
import { PciBus } from "./pci/bus.js";
import { PciFunction } from "./pci/function.js";
import { PciUart } from "./pci-uart/model.js";
import { PostPorts } from "./post/model.js";
import { ResetControl } from "./reset/model.js";
import { NoneBackend } from "./serial/backend.js";
import { TestDevice } from "./testdev/model.js";
import { IO_BARS_FROM } from "./testdev/registers.js";
import { COM1, COM2, Uart } from "./uart/adapter.js";

let machine: Machine | undefined;
afterEach(async () => machine?.destroy());

const handler = { read: () => 0, write: () => {} };

function everything(host: Machine) {
  const set = new DeviceSet();
  const resetControl = set.add(new ResetControl({ resetRequested: () => {} }));
  const pci = set.add(new PciBus(host, { resetControl, ioFrom: IO_BARS_FROM }));
  const bridge = hostBridge("hostbridge0");
  pci.add({ bus: 0, slot: 0, fn: 0 }, bridge);
  set.add(bridge);
  const card = new PciFunction({
    name: "card",
    vendor: 0x10dd,
    device: 1,
    classCode: 0x020000,
    intx: true,
    msix: { vectors: 4, bar: 1 },
    bars: [{ index: 0, kind: "io", size: 32, handler }],
  });
  pci.add({ bus: 0, slot: 2, fn: 0 }, card);
  set.add(card);
  const lpc = set.add(lpcBridge(pci.router));
  pci.add({ bus: 0, slot: 31, fn: 0 }, lpc);
  const uart = set.add(new PciUart(host, { name: "uart1", backend: new NoneBackend() }));
  pci.add({ bus: 0, slot: 4, fn: 0 }, uart.pciFunction);
  set.add(new Uart(host, { ...COM1, backend: new NoneBackend() }));
  set.add(new Uart(host, { ...COM2, backend: new NoneBackend() }));
  set.add(new AcpiPmDevice(host, { powerOff: () => {} }));
  set.add(new I8042Device(host, { setA20: (on) => host.setA20(on), resetRequested: () => {} }));
  set.add(new PostPorts(host));
  set.add(new DebugExit(host, { exit: () => {} }));
  set.add(new TestDevice(host));
  return { set, card };
}

it("every device finds its place beside the native chips, saves, restores, resets and goes", () => {
  machine = createMachine({ cpus: 1, memory: 16 * 2 ** 20, accelerator: "soft" });
  const { set, card } = everything(machine);
  const saved = JSON.parse(JSON.stringify(set.save()));
  set.reset();
  set.restore(saved);
  expect(JSON.parse(JSON.stringify(set.save()))).toEqual(saved);
  card.writeConfig(0x10, 4, 0x2000); // onto testdev's lines
  expect(card.blocked).toBe(true);
  card.writeConfig(0x10, 4, 0x3000);
  expect(card.blocked).toBe(false);
  for (const base of [0xffffffff, 0, 0xfee00000, 0xd0000000]) card.writeConfig(0x14, 4, base);
  expect(card.blocked).toBe(false);
  set.dispose();
});
