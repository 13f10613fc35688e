// What a machine is assembled from. vmm/ makes these in one explicit order, each with a DeviceHost,
// its options and its callbacks, and adds them to a DeviceSet.

export { type AcpiPmCallbacks, AcpiPmDevice } from "./acpi-pm/adapter.js";
export { DEBUG_EXIT_PORT, DebugExit, type DebugExitCallbacks } from "./debugexit/model.js";
export {
  canFlush,
  checkDevice,
  type Device,
  DeviceSet,
  type Flushes,
  type PowerButton,
} from "./device.js";
export { HOST_BRIDGES, type HostBridgeKind, hostBridge } from "./hostbridge/model.js";
export { type I8042Callbacks, I8042Device } from "./i8042/adapter.js";
export { addLpcBridge, LPC_SLOT, lpcBridge } from "./lpc/model.js";
export * from "./pci/address-map.js";
export { type IntxUse, type PciAddress, PciBus, type PciOptions } from "./pci/bus.js";
export { PciFunction, type PciFunctionSpec } from "./pci/function.js";
export {
  gsiOf,
  type IntxPin,
  PIRQ_COUNT,
  PIRQ_DEFAULTS,
  PIRQ_REGISTERS,
  pinOf,
  pirqOf,
  ROUTABLE_IRQS,
} from "./pci/routing.js";
export { PciUart, type PciUartOptions } from "./pci-uart/model.js";
export { POST_PORTS, PostPorts } from "./post/model.js";
export { type ResetCallbacks, ResetControl, type ResetKind } from "./reset/model.js";
export { NoneBackend, type SerialBackend } from "./serial/backend.js";
export { ConsoleBackend, type ConsoleFollower } from "./serial/console.js";
export { FileBackend } from "./serial/file.js";
export { type Pty, PtyBackend } from "./serial/pty.js";
export { SocketBackend } from "./serial/socket.js";
export { StdioBackend, type StdioOptions } from "./serial/stdio.js";
export { TeeBackend } from "./serial/tee.js";
export { TtyBackend } from "./serial/tty.js";
export { StateError } from "./state.js";
export { TestDevice } from "./testdev/model.js";
export { IO_BARS_FROM } from "./testdev/registers.js";
export { COM1, COM2, Uart, type UartOptions } from "./uart/adapter.js";
