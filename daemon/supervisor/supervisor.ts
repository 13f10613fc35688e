// All VMs of one daemon: finds them by name or UUID, makes, changes and removes them, takes them
// back when a daemon starts, starts them with the host and shuts them down with it.
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { Logger } from "pino";
import { mapDisks } from "../../api-schema/disk-places.js";
import { hostPathsIn } from "../../api-schema/host-paths.js";
import {
  assignSlots,
  type ChangeVm,
  CloudInit,
  type CreateVm,
  InvalidRequest,
  type PciDevice,
  PciDeviceWish,
  Power,
  parse,
  VmDefinition,
  VmError,
  type VmView,
} from "../../api-schema/index.js";
import { closed } from "../../api-schema/shape.js";
import type { EventLog } from "../events/event-log.js";
import type { Images } from "../images/images.js";
import { mergePatch } from "../merge-patch.js";
import type { Networks } from "../networks/networks.js";
import type { PathRules } from "../paths.js";
import type { Database } from "../registry/database.js";
import { Registry, type VmRow } from "../registry/registry.js";
import { isOff } from "./admission.js";
import { startsAtBoot, wavesOf } from "./autostart.js";
import { definitionProblems, takenAddresses } from "./definition-rules.js";
import { dryRun } from "./dry-run.js";
import { storedDefinition } from "./launch-definition.js";
import { runtimeFolders, type Survivor, survivorIn } from "./recovery.js";
import { VmDriver } from "./vm-driver.js";
import type { VmFolders } from "./vm-folders.js";

export interface SupervisorTools {
  readonly db: Database;
  readonly events: EventLog;
  readonly folders: VmFolders;
  readonly log: Logger;
  readonly paths: PathRules;
  readonly images: Images;
  readonly networks: Networks;
}

/** What definitions name. */
type Kept = Pick<SupervisorTools, "images" | "networks">;

/** Who changes a definition, and how. */
export interface Change {
  /** The generation that it is meant for; throws VM_CHANGED at another. */
  readonly ifMatch?: number | undefined;
  /** A client over TCP, whose paths must lie in the configured folders. */
  readonly remote?: boolean | undefined;
  /** Say what would be, and change nothing. */
  readonly dryRun?: boolean | undefined;
}

const BOOT_FACT = "boot";
/** How many processes are asked at a time who they are. */
const ADOPT_AT_ONCE = 8;

/** What a client left to the daemon: the UUID and the slots, which then stay. */
function wholeDefinition({ power: _, ...wanted }: CreateVm, kept: Kept): VmDefinition {
  const uuid = (wanted.uuid ?? randomUUID()).toLowerCase();
  return parse(VmDefinition, { ...wanted, uuid, ...placed(wanted, kept) }, "body");
}

/** With slots, and the paths of images; throws where there is no image or network of a name. */
function placed({ devices, cloudInit }: Placeable, { images, networks }: Kept) {
  const drive = cloudInit && { type: "ahci-cd", ...(cloudInit.slot && { slot: cloudInit.slot }) };
  const slots = assignSlots<{ readonly type: string; readonly slot?: string }>(
    drive === undefined ? devices : [...devices, drive],
  ).map(({ slot }) => slot);
  for (const device of devices)
    if ("network" in device && device.network !== undefined) networks.find(device.network);
  const inSlots = devices.map((device, index) => ({ ...device, slot: slots[index] ?? "" }));
  const whole = mapDisks(inSlots, (place) => {
    if (place.image === undefined) return place;
    const { path, format } = images.find(place.image);
    return { ...place, path, format };
  });
  const slot = slots[devices.length];
  return { devices: whole, ...(cloudInit && slot && { cloudInit: { ...cloudInit, slot } }) };
}

interface Placeable {
  readonly devices: readonly PciDeviceWish[];
  readonly cloudInit?: CloudInit;
}

const PlaceableWish = Type.Object({
  devices: Type.Array(PciDeviceWish),
  cloudInit: Type.Optional(CloudInit),
});

/** What is none of these is for the schema to refuse. */
const withPlaces = (wanted: unknown, kept: Kept): unknown =>
  Value.Check(PlaceableWish, wanted) ? { ...wanted, ...placed(wanted, kept) } : wanted;

export class Supervisor {
  readonly #tools: SupervisorTools;
  readonly #registry: Registry;
  readonly #drivers = new Map<string, VmDriver>();
  #released = false;
  #hostGoesDown = false;

  constructor(tools: SupervisorTools) {
    this.#tools = tools;
    this.#registry = new Registry(tools.db);
  }

  /** While it is true nothing is started. */
  get hostGoesDown(): boolean {
    return this.#hostGoesDown;
  }
  set hostGoesDown(down: boolean) {
    this.#hostGoesDown = down;
  }

  /**
   * Takes back what runs; a row or folder that cannot be read stops none of the others. `boot`
   * names the boot of the host: at another than the last one's, VMs start with the host.
   */
  async load(boot: string | undefined): Promise<void> {
    const { db, events, log } = this.#tools;
    const rows = this.#registry.all((uuid, error) =>
      this.#warn("a row of the registry cannot be read", { uuid, error: String(error) }),
    );
    for (const row of rows) this.#add(row);
    const before = db.fact(BOOT_FACT);
    const booted = boot !== undefined && before !== undefined && before !== boot;
    await this.#takeBack(booted);
    if (booted) this.#markForBoot(boot);
    else if (boot !== undefined && boot !== before) db.setFact(BOOT_FACT, boot);
    const running = this.list().filter(({ state }) => !isOff(state)).length;
    events.append("daemon.started", { pid: process.pid, vms: this.#drivers.size, running, booted });
    log.info({ vms: this.#drivers.size, running, booted }, "VMs are loaded");
    this.resume();
    void this.#startWithHost();
  }

  /** Goes on with restarts and wishes that were held back. */
  resume(): void {
    for (const driver of this.list()) driver.resume();
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

  /** VMs with such a device. */
  usersOf(uses: (device: PciDevice) => boolean): VmDriver[] {
    return this.list().filter(({ row }) => row.definition.devices.some(uses));
  }

  /** What create() would refuse. */
  check(wanted: CreateVm, by: Change = {}, before?: VmDefinition): void {
    const definition = wholeDefinition(wanted, this.#tools);
    this.#refuseWrong(definition, by, before);
    this.#refuseTaken(definition);
  }

  /** With `power` running or paused it is started at once; waitFor() tells when it has. */
  create(wanted: CreateVm, by: Change = {}): VmDriver {
    const { power = "stopped" } = wanted;
    const definition = wholeDefinition(wanted, this.#tools);
    this.#refuseWrong(definition, by);
    this.#refuseTaken(definition);
    const driver = this.#insert(definition, power);
    driver.resume();
    return driver;
  }

  /** What create() would make; throws InvalidRequest with all that is wrong. */
  async wouldCreate(wanted: CreateVm, { remote = false }: Change): Promise<VmView> {
    const definition = wholeDefinition(wanted, this.#tools);
    const refused = this.#taken(definition);
    return dryRun({ definition, power: wanted.power ?? "stopped", remote, refused }, this.#tools);
  }

  /** What change() or replace() would make of it, likewise. */
  async wouldChange(
    driver: VmDriver,
    { power, ...wanted }: Readonly<Record<string, unknown>>,
    { ifMatch, remote = false }: Change,
  ): Promise<VmView> {
    const before = driver.view();
    requireGeneration(before.generation, ifMatch);
    const definition = parse(VmDefinition, withPlaces(wanted, this.#tools), "body");
    const refused = this.#taken(definition, driver);
    return dryRun(
      { definition, power: isPower(power) ? power : before.power, remote, before, refused },
      this.#tools,
    );
  }

  /** A merge patch (RFC 7396) of the definition with `power`: null restores a default. */
  change(driver: VmDriver, patch: ChangeVm, by: Change = {}): Promise<VmView> {
    return driver.change((before, generation) => {
      requireGeneration(generation, by.ifMatch);
      const { power: wished, ...fields } = patch;
      const power = wished === undefined || wished === null ? undefined : powerOf(wished);
      return { definition: this.#changed(driver, mergePatch(before, fields), before, by), power };
    });
  }

  /** The whole definition, and the power where it is given; the same again changes nothing. */
  replace(driver: VmDriver, { power, ...wanted }: CreateVm, by: Change = {}): Promise<VmView> {
    return driver.change((before, generation) => {
      requireGeneration(generation, by.ifMatch);
      const definition = { ...wanted, uuid: wanted.uuid ?? before.uuid };
      return { definition: this.#changed(driver, definition, before, by), power };
    });
  }

  async remove(driver: VmDriver, ifMatch?: number): Promise<void> {
    const { db, events, folders } = this.#tools;
    await driver.remove((generation) => {
      requireGeneration(generation, ifMatch);
      db.commit(() => {
        this.#registry.remove(driver.uuid);
        events.append("vm.deleted", {}, driver);
      });
      this.#drivers.delete(driver.uuid);
      folders.remove(driver.uuid);
    });
  }

  /** For the host's shutdown: wave by wave, backwards; resolves with how many went off. */
  async shutDownAll(
    limitMs: number,
    signal: AbortSignal,
    progress: (done: number, total: number) => void,
  ): Promise<number> {
    const on = this.list().filter(({ state }) => !isOff(state));
    const deadline = Date.now() + limitMs;
    let done = 0;
    progress(done, on.length);
    for (const { members } of wavesOf(on.map(startable)).reverse()) {
      if (signal.aborted) return done;
      await Promise.all(
        members.map(async ({ driver }) => {
          await driver.shutDownWithHost(Math.max(0, deadline - Date.now()));
          progress(++done, on.length);
        }),
      );
    }
    return done;
  }

  /** The daemon ends; the VMs go on. */
  release(): void {
    this.#released = true;
    for (const driver of this.#drivers.values()) driver.release();
  }

  #insert(definition: VmDefinition, power: Power): VmDriver {
    const now = Date.now();
    const row: VmRow = {
      definition,
      generation: 1,
      created: now,
      changed: now,
      power,
      status: {
        state: "defined",
        generation: 0,
        resets: 0,
        restarts: 0,
        observedGeneration: power === "stopped" ? 1 : 0,
      },
      supervision: {},
      process: undefined,
    };
    this.#tools.db.commit(() => {
      this.#registry.insert(row);
      this.#tools.events.append("vm.created", { generation: 1 }, definition);
    });
    return this.#add(row);
  }

  #add(row: VmRow): VmDriver {
    const driver = new VmDriver(row, {
      ...this.#tools,
      registry: this.#registry,
      hostGoesDown: () => this.#hostGoesDown,
    });
    this.#drivers.set(row.definition.uuid, driver);
    return driver;
  }

  #changed(driver: VmDriver, wanted: unknown, before: VmDefinition, by: Change): VmDefinition {
    const definition = parse(VmDefinition, withPlaces(wanted, this.#tools), "body");
    if (definition.uuid.toLowerCase() !== before.uuid)
      throw new VmError("REQUEST_INVALID", ["body.uuid", "cannot be changed"]);
    this.#refuseWrong(definition, by, before);
    this.#refuseTaken(definition, driver);
    return { ...definition, uuid: before.uuid };
  }

  /** Paths that were there before are none of this client's doing: they are looked at at start. */
  #refuseWrong(definition: VmDefinition, { remote = false }: Change, before?: VmDefinition): void {
    const problems = definitionProblems(definition);
    if (problems.length > 0) throw new InvalidRequest(problems);
    const known = hostPathsIn(VmDefinition, before).map(({ path }) => path);
    this.#tools.paths.check(VmDefinition, definition, { remote, known });
  }

  #refuseTaken(definition: VmDefinition, except?: VmDriver): void {
    const [first] = this.#taken(definition, except);
    if (first !== undefined) throw first;
  }

  #taken(definition: VmDefinition, except?: VmDriver): VmError[] {
    const { name, uuid } = definition;
    const named: VmError[] = [];
    const definitions: VmDefinition[] = [];
    for (const driver of this.#drivers.values()) {
      if (driver === except) continue;
      if (driver.name === name) named.push(new VmError("VM_EXISTS", [name]));
      else if (driver.uuid === uuid) named.push(new VmError("VM_UUID_EXISTS", [uuid]));
      definitions.push(driver.row.definition);
    }
    return [...named, ...takenAddresses(definition, definitions, except?.row.definition)];
  }

  // When a daemon starts.

  async #takeBack(booted: boolean): Promise<void> {
    const { folders } = this.#tools;
    const unknown = runtimeFolders(folders.all()).filter((uuid) => !this.#drivers.has(uuid));
    const work = [
      ...this.list().map((driver) => () => this.#adopt(driver, booted)),
      ...unknown.map((uuid) => () => this.#findUnknown(uuid)),
    ];
    const next = async (): Promise<void> => {
      for (let one = work.shift(); one !== undefined; one = work.shift()) await one();
    };
    await Promise.all(Array.from({ length: ADOPT_AT_ONCE }, next));
    for (const uuid of folders.kept()) if (this.#isDeleted(uuid)) folders.remove(uuid);
  }

  async #adopt(driver: VmDriver, booted: boolean): Promise<void> {
    const { folders } = this.#tools;
    try {
      const found = await survivorIn(folders.of(driver.uuid), driver.row.process);
      await driver.adopt(found?.record, booted);
    } catch (error) {
      this.#warn("a VM cannot be taken back", { uuid: driver.uuid, error: String(error) });
    }
  }

  /** A process of a VM that the registry does not know, or nothing but what one left. */
  async #findUnknown(uuid: string): Promise<void> {
    const { folders } = this.#tools;
    const folder = folders.of(uuid);
    try {
      const found = await survivorIn(folder, undefined);
      if (found !== undefined) await this.#recover(uuid, found);
      else if (!this.#registry.has(uuid)) rmSync(folder, { recursive: true, force: true });
    } catch (error) {
      this.#warn("a VM's process cannot be taken back", { uuid, error: String(error) });
    }
  }

  /** The registry has lost the row (a backup was put back, say), or cannot read it. */
  async #recover(uuid: string, { record, definition }: Survivor): Promise<void> {
    const wanted = storedDefinition(parse(VmDefinition, definition, "launch.definition"));
    const taken = this.list().some(({ name }) => name === wanted.name);
    const name = taken ? `recovered-${uuid.slice(0, 8)}` : wanted.name;
    this.#registry.remove(uuid);
    const driver = this.#insert({ ...wanted, uuid, name }, "running");
    await driver.adopt(record, false);
    this.#warn("a VM that the registry did not know runs: it has been taken in", { uuid, name });
  }

  #isDeleted(uuid: string): boolean {
    const { db } = this.#tools;
    if (this.#drivers.has(uuid) || this.#registry.has(uuid)) return false;
    const sql = "SELECT 1 FROM events WHERE vm = ? AND kind = 'vm.deleted'";
    return db.statement(sql).get(uuid) !== undefined;
  }

  /** Written down before the first is started: a daemon that dies between two goes on. */
  #markForBoot(boot: string): void {
    const { db } = this.#tools;
    db.commit(() => {
      for (const driver of this.list()) if (startsAtBoot(startable(driver))) driver.markForBoot();
      db.setFact(BOOT_FACT, boot);
    });
  }

  async #startWithHost(): Promise<void> {
    const marked = this.list().filter(({ row }) => row.supervision.boot === true);
    for (const { members, delay } of wavesOf(marked.map(startable))) {
      if (this.#released) return;
      await Promise.all(
        members.map(({ driver }) =>
          driver.startAtBoot().catch((error: unknown) =>
            this.#warn("a VM does not start with the host", {
              uuid: driver.uuid,
              error: String(error),
            }),
          ),
        ),
      );
      await sleep(delay * 1000, undefined, { ref: false });
    }
  }

  #warn(what: string, about: { readonly uuid: string; readonly [more: string]: unknown }): void {
    this.#tools.log.error(about, what);
    this.#tools.events.append("daemon.warning", { what, ...about });
  }
}

const startable = (driver: VmDriver) => ({
  driver,
  name: driver.name,
  power: driver.row.power,
  autostart: driver.row.definition.autostart,
});

const PowerField = closed({ power: Power });
const isPower = (wished: unknown): wished is Power => Value.Check(Power, wished);
const powerOf = (wished: unknown): Power => parse(PowerField, { power: wished }, "body").power;

function requireGeneration(generation: number, ifMatch: number | undefined): void {
  if (ifMatch !== undefined && ifMatch !== generation)
    throw new VmError("VM_CHANGED", [generation, ifMatch]);
}
