// The words after a network device's name in -s:
//
//   virtio-net[,BACKEND][,OPTION…]   virtio-vmnet[,MODE][,OPTION…]   virtio-tap,NAME[,OPTION…]
//   BACKEND  tap=NAME, vmnet[=MODE], stream=SOCKET, user, switch=NETWORK, none
//   MODE     shared, host, bridged:INTERFACE
//   OPTION   mac=MAC, mtu=BYTES, bridge=NAME (tap), tcp=[ADDRESS/]HOST:GUEST, udp=… (user)
//   virtio-sock,guest_cid=N,path=SOCKET
import { randomBytes } from "node:crypto";
import type { PciDevice } from "../../api-schema/definition.js";
import type { NetworkBackend, NetworkCard, PortForward } from "../../api-schema/network.js";
import { MAC_BYTES, printMac } from "../../devices/net/mac.js";
import { UsageError } from "./getopt.js";

type Device = Extract<PciDevice, { type: "virtio-net" }>;

const invalid = (word: string): UsageError => new UsageError(`Invalid device option "${word}"`);

function vmnet(mode: string): NetworkBackend | undefined {
  const [kind, to] = mode.split(":");
  if (kind === "bridged" && to) return { kind: "vmnet", mode: kind, interface: to };
  if (kind === "shared" || kind === "host") return { kind: "vmnet", mode: kind };
  return undefined;
}

/** By the word, or what is before its equals sign; undefined where the rest is wrong. */
const BACKENDS: Readonly<Record<string, (value: string) => NetworkBackend | undefined>> = {
  tap: (name) => (name === "" ? { kind: "tap" } : { kind: "tap", interface: name }),
  vmnet: (mode) => vmnet(mode || "shared"),
  stream: (socket) => (socket === "" ? undefined : { kind: "stream", socket }),
  user: () => ({ kind: "user" }),
  switch: (network) => (network === "" ? undefined : { kind: "switch", network }),
  none: () => ({ kind: "none" }),
};

export const NETWORKS: readonly string[] = Object.keys(BACKENDS);

const splitWord = (word: string): [name: string, value: string] => {
  const at = word.indexOf("=");
  return at < 0 ? [word, ""] : [word.slice(0, at), word.slice(at + 1)];
};

function forward(protocol: "tcp" | "udp", value: string): PortForward | undefined {
  const [, address, host, guest] = /^(?:([0-9a-fA-F.:]+)\/)?(\d+):(\d+)$/.exec(value) ?? [];
  if (host === undefined) return undefined;
  const where = address === undefined ? {} : { address };
  return { protocol, ...where, host: Number(host), guest: Number(guest) };
}

interface Card extends Omit<NetworkCard, "backend"> {
  readonly bridge?: string;
  readonly forwards?: readonly PortForward[];
}

function option(word: string): Card {
  const [name, value] = splitWord(word);
  if (name === "mac") return { mac: macOf(value) };
  if (name === "mtu" && /^\d{2,5}$/.test(value)) return { mtu: Number(value) };
  if (name === "bridge" && value !== "") return { bridge: value };
  const found = name === "tcp" || name === "udp" ? forward(name, value) : undefined;
  if (found === undefined) throw invalid(word);
  return { forwards: [found] };
}

/** The original's words for an address that cannot be a card's. */
function macOf(text: string): string {
  const bytes = text.split(":");
  const good = bytes.length === MAC_BYTES && bytes.every((byte) => /^[0-9a-fA-F]{1,2}$/.test(byte));
  const mac = Uint8Array.from(bytes, (byte) => Number.parseInt(byte, 16));
  if (!good || (mac[0] ?? 1) & 1 || mac.every((byte) => byte === 0))
    throw new UsageError(`Invalid MAC address "${text}"`);
  return printMac(mac);
}

function withOptions(backend: NetworkBackend | undefined, words: readonly string[]): NetworkCard {
  const options = words.map(option);
  const forwards = options.flatMap(({ forwards: some = [] }) => some);
  const { bridge, forwards: _, ...card }: Card = Object.assign({}, ...options);
  const extra = (good: boolean, name: string): void => {
    if (!good) throw invalid(`${name} without its backend`);
  };
  extra(bridge === undefined || backend?.kind === "tap", "bridge");
  extra(forwards.length === 0 || backend?.kind === "user", "tcp or udp");
  if (backend === undefined) return card;
  return {
    ...card,
    backend: {
      ...backend,
      ...(bridge === undefined ? {} : { bridge }),
      ...(forwards.length === 0 ? {} : { forwards }),
    } as NetworkBackend,
  };
}

/** The first word of virtio-net: a backend, nothing, or an option already. HyperKit's is empty. */
function netOptions(words: readonly string[]): NetworkCard {
  const [first = "", ...rest] = words;
  if (first === "") return withOptions(undefined, rest);
  const [name, value] = splitWord(first);
  if (/^tap\d+$/.test(first)) return withOptions({ kind: "tap", interface: first }, rest);
  if (!Object.hasOwn(BACKENDS, name)) return withOptions(undefined, words);
  const backend = BACKENDS[name]?.(value);
  if (backend === undefined) throw invalid(first);
  return withOptions(backend, rest);
}

type NetDeviceName = "virtio-net" | "virtio-tap" | "virtio-vmnet";

export function parseNet(slot: string, name: NetDeviceName, words: readonly string[]): Device {
  const [first = "", ...rest] = words;
  const card = { slot, type: "virtio-net" } as const;
  if (name === "virtio-net") return { ...card, ...netOptions(words) };
  if (name === "virtio-tap") {
    if (first === "") throw new UsageError(`pci slot ${slot}: virtio-tap needs a tap`);
    return { ...card, ...withOptions({ kind: "tap", interface: first }, rest) };
  }
  const backend = vmnet(first || "shared");
  if (backend === undefined) throw invalid(first);
  return { ...card, ...withOptions(backend, rest) };
}

/** HyperKit's names; `guest_forwards` has no place here: any port can be reached. */
export function parseSock(
  slot: string,
  words: readonly string[],
): Extract<PciDevice, { type: "virtio-sock" }> {
  const found = new Map(words.map(splitWord));
  const unknown = [...found.keys()].find((name) => name !== "guest_cid" && name !== "path");
  if (unknown !== undefined) throw invalid(unknown);
  const [cid, socket] = [Number(found.get("guest_cid")), found.get("path")];
  if (!Number.isInteger(cid) || socket === undefined || socket === "")
    throw new UsageError(`pci slot ${slot}: virtio-sock needs guest_cid= and path=`);
  return { slot, type: "virtio-sock", cid, socket };
}

/**
 * Without -U all VMs of this program have one UUID, as the original's: their cards get random addresses,
 * as vmnet gave them to the original then.
 */
export function withRandomMacs(devices: readonly PciDevice[]): PciDevice[] {
  return devices.map((device) => {
    if (device.type !== "virtio-net" || device.mac !== undefined) return device;
    if (device.backend?.kind === "vmnet") return device;
    const mac = Uint8Array.from(randomBytes(MAC_BYTES));
    mac[0] = ((mac[0] ?? 0) & 0xfc) | 0x02;
    return { ...device, mac: printMac(mac) };
  });
}
