// All VMs of one daemon: finds them by name or UUID, makes, changes and removes them.
import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import {
  type ChangeVm,
  type CreateVm,
  parse,
  VmDefinition,
  VmError,
} from "../../api-schema/index.js";
import type { Registry, VmRow } from "../registry/registry.js";
import { checkDefinition } from "./definition-rules.js";
import { VmDriver } from "./vm-driver.js";
import type { VmFolders } from "./vm-folders.js";

export class Supervisor {
  readonly #registry: Registry;
  readonly #folders: VmFolders;
  readonly #log: Logger;
  readonly #drivers = new Map<string, VmDriver>();

  constructor(registry: Registry, folders: VmFolders, log: Logger) {
    this.#registry = registry;
    this.#folders = folders;
    this.#log = log;
  }

  /** Takes back what runs; a row that cannot be read stops none of the others. */
  async load(): Promise<void> {
    const rows = this.#registry.all((uuid, error) =>
      this.#log.error({ uuid, error: String(error) }, "a row of the registry cannot be read"),
    );
    for (const row of rows) this.#add(row);
    await Promise.all([...this.#drivers.values()].map((driver) => driver.adopt()));
  }

  list(): readonly VmDriver[] {
    return [...this.#drivers.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** By name or UUID. */
  lookUp(nameOrUuid: string): VmDriver | undefined {
    return (
      this.#drivers.get(nameOrUuid.toLowerCase()) ??
      [...this.#drivers.values()].find(({ name }) => name === nameOrUuid)
    );
  }

  /** By name or UUID; throws VM_NOT_FOUND. */
  find(nameOrUuid: string): VmDriver {
    const driver = this.lookUp(nameOrUuid);
    if (driver === undefined) throw new VmError("VM_NOT_FOUND", [nameOrUuid]);
    return driver;
  }

  create(wanted: CreateVm): VmDriver {
    const definition = { ...wanted, uuid: (wanted.uuid ?? randomUUID()).toLowerCase() };
    checkDefinition(definition);
    this.#refuseTaken(definition);
    const now = Date.now();
    const row: VmRow = {
      definition,
      generation: 1,
      created: now,
      changed: now,
      status: { state: "defined", generation: 0, resets: 0 },
      process: undefined,
    };
    this.#registry.insert(row);
    return this.#add(row);
  }

  /** `ifMatch`: the generation that the change is meant for; throws VM_CHANGED at another. */
  change(driver: VmDriver, change: ChangeVm, ifMatch?: number): ReturnType<VmDriver["change"]> {
    return driver.change((before, generation) => {
      requireGeneration(generation, ifMatch);
      const merged: Record<string, unknown> = { ...before, ...change };
      for (const [field, value] of Object.entries(change)) if (value === null) delete merged[field];
      const definition = parse(VmDefinition, merged, "body");
      if (definition.uuid.toLowerCase() !== before.uuid)
        throw new VmError("REQUEST_INVALID", ["body.uuid", "cannot be changed"]);
      checkDefinition(definition);
      this.#refuseTaken(definition, driver);
      return definition;
    });
  }

  async remove(driver: VmDriver, ifMatch?: number): Promise<void> {
    await driver.remove((generation) => {
      requireGeneration(generation, ifMatch);
      this.#registry.remove(driver.uuid);
      this.#drivers.delete(driver.uuid);
      this.#folders.remove(driver.uuid);
    });
  }

  /** The daemon ends; the VMs go on. */
  release(): void {
    for (const driver of this.#drivers.values()) driver.release();
  }

  #add(row: VmRow): VmDriver {
    const driver = new VmDriver(row, {
      registry: this.#registry,
      folders: this.#folders,
      log: this.#log,
    });
    this.#drivers.set(row.definition.uuid, driver);
    return driver;
  }

  #refuseTaken({ name, uuid }: VmDefinition, except?: VmDriver): void {
    for (const driver of this.#drivers.values()) {
      if (driver === except) continue;
      if (driver.name === name) throw new VmError("VM_EXISTS", [name]);
      if (driver.uuid === uuid) throw new VmError("VM_UUID_EXISTS", [uuid]);
    }
  }
}

function requireGeneration(generation: number, ifMatch: number | undefined): void {
  if (ifMatch !== undefined && ifMatch !== generation)
    throw new VmError("VM_CHANGED", [generation, ifMatch]);
}
