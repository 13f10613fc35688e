import Ajv from "ajv";
import { describe, expect, it } from "vitest";
import { HOST_PATH } from "./host-paths.js";
import { errorSpecs, isErrorCode, LaunchFile, parse, VmDefinition, VmError } from "./index.js";

const UUID = "01234567-89ab-cdef-0123-456789abcdef";
const minimal = { name: "web", uuid: UUID, boot: { kind: "linux", kernel: "/k" } };
const failure = (value: unknown): string => {
  try {
    parse(VmDefinition, value, "definition");
  } catch (error) {
    if (error instanceof VmError && error.code === "REQUEST_INVALID") return error.message;
    throw error;
  }
  return "accepted";
};

describe("a definition", () => {
  it("is whole after the defaults", () => {
    const vm = parse(VmDefinition, minimal);
    expect(vm).toMatchObject({
      cpus: 1,
      memory: 268435456,
      accelerator: "auto",
      cpuModel: "stable",
      serial: { com1: { backend: "console" }, com2: { backend: "none" } },
      firmware: { acpi: true, mpTable: true, x2apic: false, rtc: "utc", strictIo: false },
      shutdownTimeout: 60,
      labels: {},
    });
    expect(vm.devices.map((device) => device.type)).toEqual(["hostbridge", "lpc"]);
  });

  it("is read alike by ajv with useDefaults", () => {
    const validate = new Ajv.default({ useDefaults: true, keywords: [HOST_PATH] }).compile(
      VmDefinition,
    );
    const given = structuredClone(minimal);
    expect(validate(given)).toBe(true);
    expect(given).toEqual(parse(VmDefinition, minimal));
  });

  it.each([
    [{ memory: 0 }, "definition.memory"],
    [{ memory: 2 ** 60 }, "definition.memory"],
    [{ memory: 2 ** 20 + 1 }, "definition.memory"],
    [{ cpus: 0 }, "definition.cpus"],
    [{ cpus: 65 }, "definition.cpus"],
    [{ cpus: 1.5 }, "definition.cpus"],
    [{ accelerator: "fast" }, "definition.accelerator: must be one of auto, soft, kvm, hvf"],
    [{ cpuModel: "kvm64" }, "definition.cpuModel: must be one of stable, host"],
    [{ colour: "red" }, "definition.colour: unexpected property"],
    [{ name: "a/b" }, "definition.name"],
    [{ boot: { kind: "linux" } }, "definition.boot.kernel"],
    [{ boot: { kind: "linux", kernel: "/k", intrd: "/i" } }, "definition.boot.intrd"],
    [{ boot: { kind: "linux", kernel: "/k\0" } }, "definition.boot.kernel"],
    [{ serial: { com1: { backend: "tty" } } }, "definition.serial.com1.backend: must be one of"],
    [{ devices: [{ slot: "x", type: "lpc" }] }, "definition.devices.0.slot"],
    [{ devices: [{ slot: "3", type: "fax" }] }, "definition.devices.0.type: must be one of host"],
    [{ devices: [{ slot: "3" }] }, "definition.devices.0"],
    [{ devices: [{ slot: "3", type: "lpc", serial: {} }] }, "definition.devices.0.serial"],
    [
      { devices: [{ slot: "3", type: "uart", serial: { backend: "fax" } }] },
      "definition.devices.0.serial.backend: must be one of",
    ],
    [{ labels: { UPPER: "x" } }, "definition.labels"],
  ])("is refused with the place: %j", (change, message) => {
    expect(failure({ ...minimal, ...change })).toContain(message);
  });

  it("does not change what the caller gave", () => {
    const given = structuredClone(minimal);
    parse(VmDefinition, given);
    expect(given).toEqual(minimal);
  });
});

describe("the launch file", () => {
  it("has defaults for all but nonce and definition", () => {
    expect(parse(LaunchFile, { nonce: "n", definition: minimal })).toMatchObject({
      start: true,
      onReset: "restart",
      console: { limit: 16777216 },
      linger: 0,
      confine: true,
    });
  });
});

describe("the error table", () => {
  it("fills in the details in order", () => {
    const error = new VmError("VM_CHANGED", [4, 3]);
    expect(error.message).toBe("the VM is at generation 4, not 3");
    expect(error.http).toBe(412);
  });

  it("has HTTP error statuses only", () => {
    for (const [code, spec] of Object.entries(errorSpecs)) {
      expect(isErrorCode(code)).toBe(true);
      expect(spec.http).toBeGreaterThanOrEqual(400);
      expect(spec.http).toBeLessThan(600);
    }
    expect(isErrorCode("toString")).toBe(false);
  });
});
