// The network cards of a definition: what they are plugged into is opened and checked before the VM is
// made a device of, so that a definition that cannot work changes nothing; and what the API does with
// them afterwards.
import { createHash } from "node:crypto";
import { closeSync, constants, openSync } from "node:fs";
import type { PciDevice, VmDefinition } from "../api-schema/definition.js";
import { reasonOf, VmError } from "../api-schema/errors.js";
import { cardAddresses, macTakenWithin, slotKey } from "../api-schema/mac-addresses.js";
import type { CaptureRequest, NetworkBackend, NetworkView } from "../api-schema/network.js";
import { type NetBackend, NoNetwork, PluggedNetwork } from "../devices/net/backend.js";
import { parseMac, printMac } from "../devices/net/mac.js";
import { ReconnectingNetwork } from "../devices/net/reconnecting.js";
import type { NetCard } from "../devices/virtio-net/model.js";
import type { HostNet } from "../native/types.js";
import type { HostFiles, OpenFile } from "./host-files.js";
import { BRIDGED_NEEDS, networkFault } from "./networks/check.js";
import { openUser } from "./networks/passt.js";
import { switchFolder } from "./networks/switch-folder.js";

type NetDevice = Extract<PciDevice, { type: "virtio-net" }>;
type Of<K extends NetworkBackend["kind"]> = Extract<NetworkBackend, { kind: K }>;

const CAPTURE_LIMIT = 2 ** 30;
const CAPTURE_SNAP = 65553;

/** What a card is made of, once. */
export interface OpenNetwork {
  readonly backend: NetBackend;
  readonly mac: Uint8Array;
}

interface Opening {
  readonly name: string;
  readonly net: HostNet;
  readonly mac: Uint8Array;
  readonly macGiven: boolean;
  /** Of vmnet's interface: the same gets the same address again. */
  readonly interfaceId: string;
  log(text: string): void;
}

export const defaultBackend = (): NetworkBackend =>
  process.platform === "darwin" ? { kind: "vmnet" } : { kind: "user" };

/** What a name stands for only the daemon knows, which has written it down before. */
export function backendOf(card: NetDevice): NetworkBackend {
  const { network, backend } = card;
  if (backend === undefined && network !== undefined) {
    const why = "it is one of the daemon's networks, and no daemon has looked it up";
    throw new VmError("NETWORK_UNUSABLE", [cardName(card), network, why]);
  }
  return backend ?? defaultBackend();
}

export const isCard = (device: PciDevice): device is NetDevice => device.type === "virtio-net";

/** As errors name it. */
const cardName = ({ slot }: NetDevice): string => `virtio-net ${slot}`;

/** Throws VmError NETWORK_UNUSABLE where it is seen from outside that the card cannot be plugged in. */
export function checkNetwork(card: NetDevice): void {
  const backend = backendOf(card);
  const why = networkFault(backend);
  if (why !== undefined) throw new VmError("NETWORK_UNUSABLE", [cardName(card), backend.kind, why]);
}

/** For cards after the first, which has the VM's own as the original's: RFC 9562, version 8. */
function uuidOf(uuid: string, slot: string): string {
  const hash = createHash("sha256")
    .update(`${uuid.toLowerCase()} ${slotKey(slot)}`)
    .digest();
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x80;
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  const hex = hash.toString("hex", 0, 16);
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** The addresses of a definition's cards by slot; throws VmError NETWORK_MAC_TAKEN. */
export function macsOf(definition: Pick<VmDefinition, "uuid" | "devices">) {
  const wrong = macTakenWithin(definition);
  if (wrong !== undefined) throw wrong;
  return new Map(cardAddresses(definition).map(({ slot, mac }) => [slot, mac]));
}

export class Networks {
  readonly #open = new Map<string, OpenNetwork>();
  readonly #cards = new Map<string, NetCard>();
  readonly #captures = new Map<string, string>();

  /** Throws VmError, with nothing left open. */
  static async open(
    definition: Pick<VmDefinition, "uuid" | "devices">,
    net: HostNet,
    log: (text: string) => void,
  ): Promise<Networks> {
    const all = new Networks();
    const macs = macsOf(definition);
    try {
      for (const device of definition.devices.filter(isCard)) {
        const mac = parseMac(macs.get(device.slot) ?? "");
        const name = cardName(device);
        all.#open.set(
          device.slot,
          await openNetwork(backendOf(device), {
            name,
            net,
            mac,
            macGiven: device.mac !== undefined,
            interfaceId:
              all.#open.size === 0 ? definition.uuid : uuidOf(definition.uuid, device.slot),
            log: (text) => log(`${name}: ${text}`),
          }),
        );
      }
    } catch (error) {
      all.close();
      throw error;
    }
    return all;
  }

  /** The caller's from here on. */
  take(slot: string): OpenNetwork {
    const found = this.#open.get(slot);
    if (found === undefined) throw new Error(`no network is open for slot ${slot}`);
    this.#open.delete(slot);
    return found;
  }
  made(slot: string, card: NetCard): void {
    this.#cards.set(slot, card);
  }

  /** Those that nobody took. */
  close(): void {
    for (const { backend } of this.#open.values()) backend.close();
    this.#open.clear();
  }

  views(): NetworkView[] {
    return [...this.#cards].map(([slot, card]) => this.#view(slot, card));
  }

  setLink(slot: string, up: boolean): NetworkView {
    const card = this.#card(slot);
    card.link = up;
    return this.#view(slot, card);
  }

  startCapture(
    slot: string,
    { file, limit = CAPTURE_LIMIT, snap = CAPTURE_SNAP }: CaptureRequest,
    { open }: Pick<HostFiles, "open"> = { open: openSync },
  ): NetworkView {
    const card = this.#card(slot);
    if (card.backend.port === undefined)
      throw new VmError("CAPTURE_FAILED", [file, "nothing is plugged in"]);
    const fd = newFile(file, open);
    if (!card.capture({ fd, name: `virtio-net ${slot}`, limit, snap })) closeSync(fd);
    this.#captures.set(slot, file);
    return this.#view(slot, card);
  }

  stopCapture(slot: string): NetworkView {
    const card = this.#card(slot);
    const view = this.#view(slot, card);
    card.capture(undefined);
    this.#captures.delete(slot);
    return view;
  }

  #card(slot: string): NetCard {
    const key = slotKey(slot);
    const found = [...this.#cards].find(([one]) => slotKey(one) === key);
    if (found === undefined) throw new VmError("NETWORK_NOT_FOUND", [slot]);
    return found[1];
  }

  #view(slot: string, card: NetCard): NetworkView {
    const { captureEnded, ...counters } = card.statistics;
    const { kind, detail, port, fault } = card.backend;
    const capture = this.#captures.get(slot);
    const why = fault ?? (captureEnded ? `the capture has ended: ${captureEnded}` : undefined);
    return {
      slot,
      mac: printMac(card.mac),
      backend: kind,
      detail,
      link: card.link,
      connected: port !== undefined,
      ...(why === undefined ? {} : { fault: why }),
      ...(capture === undefined ? {} : { capture }),
      counters,
    };
  }
}

/** Of one's own, and never over anything. */
function newFile(path: string, open: OpenFile): number {
  const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  } catch (error) {
    throw new VmError("CAPTURE_FAILED", [path, reasonOf(error)], { cause: error });
  }
}

async function openNetwork(backend: NetworkBackend, opening: Opening): Promise<OpenNetwork> {
  try {
    return await openers[backend.kind](backend as never, opening);
  } catch (error) {
    if (error instanceof VmError) throw error;
    const details = [opening.name, backend.kind, reasonOf(error)];
    throw new VmError("NETWORK_UNUSABLE", details, { cause: error });
  }
}

type Openers = {
  readonly [K in NetworkBackend["kind"]]: (
    backend: Of<K>,
    opening: Opening,
  ) => OpenNetwork | Promise<OpenNetwork>;
};

const openers: Openers = {
  tap({ interface: wanted = "", bridge }, { net, mac }) {
    const { port, name } = tap(net, wanted, bridge);
    return { backend: new PluggedNetwork({ kind: "tap", detail: name, port }), mac };
  },
  vmnet({ mode = "shared", interface: to }, { net, mac, macGiven, interfaceId }) {
    if (mode === "bridged" && to === undefined) throw new Error(BRIDGED_NEEDS);
    const { port, mac: given } = net.vmnet(mode, interfaceId, to);
    const backend = new PluggedNetwork({ kind: "vmnet", detail: mode, port });
    // vmnet lets only its own address through, which it derives of the interface id.
    return { backend, mac: macGiven ? mac : parseMac(given) };
  },
  stream({ socket }, { net, mac, log }) {
    const connect = () => net.stream(socket);
    const port = connect();
    const options = { kind: "stream", detail: socket, port, connect, log };
    return { backend: new ReconnectingNetwork(options), mac };
  },
  async user({ forwards = [] }, { net, mac, log }) {
    return { backend: await openUser({ net, forwards, log }), mac };
  },
  switch({ network }, { name, net, mac }) {
    const port = join(net, name, network, mac);
    return { backend: new PluggedNetwork({ kind: "switch", detail: network, port }), mac };
  },
  none: (_, { mac }) => ({ backend: new NoNetwork(), mac }),
};

const codeOf = (error: unknown): string | undefined => (error as { code?: string }).code;

function tap(net: HostNet, name: string, bridge: string | undefined) {
  try {
    return net.tap(name, bridge);
  } catch (error) {
    if (codeOf(error) === "EBUSY") throw new VmError("NETWORK_IN_USE", [name], { cause: error });
    throw error;
  }
}

function join(net: HostNet, name: string, network: string, mac: Uint8Array) {
  try {
    return net.switch(switchFolder(network), mac);
  } catch (error) {
    if (codeOf(error) !== "EADDRINUSE") throw error;
    const taken = [printMac(mac), name, `a VM on the network ${network}`];
    throw new VmError("NETWORK_MAC_TAKEN", taken, { cause: error });
  }
}
