// The seed of a VM's cloud-init ("NoCloud"): a disc labelled CIDATA with user-data, meta-data and
// network-config. The latter two are YAML, of which JSON is a part (YAML 1.2.2, §1.3).
import { createHash } from "node:crypto";
import type { CloudInit, VmDefinition } from "../../api-schema/index.js";
import { iso9660 } from "./iso9660.js";

/** What cloud-init looks for. */
const LABEL = "CIDATA";

type Seeded = Pick<VmDefinition, "name" | "uuid"> & { readonly cloudInit: CloudInit };

/** The bytes of the disc; the same for the same definition. */
export function seedOf({ name, uuid, cloudInit }: Seeded): Buffer {
  const { networkConfig } = cloudInit;
  return iso9660(LABEL, [
    file("user-data", userData(cloudInit)),
    file("meta-data", json(metaData({ name, uuid, cloudInit }))),
    ...(networkConfig === undefined ? [] : [file("network-config", json(networkConfig))]),
  ]);
}

const file = (name: string, text: string) => ({ name, bytes: Buffer.from(text) });

const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

function userData({ userData: given = {} }: CloudInit): string {
  return typeof given === "string" ? given : `#cloud-config\n${json(given)}`;
}

function metaData({ name, uuid, cloudInit }: Seeded): Readonly<Record<string, unknown>> {
  const { hostname = hostNameOf(name), sshAuthorizedKeys, metaData: more } = cloudInit;
  return {
    "instance-id": instanceId(uuid, cloudInit),
    ...(hostname !== undefined && { "local-hostname": hostname }),
    ...(sshAuthorizedKeys !== undefined && { "public-keys": sshAuthorizedKeys }),
    ...more,
  };
}

/** RFC 1123 §2.1: a VM's name may have an underscore, a host's may not. */
const hostNameOf = (name: string): string | undefined =>
  /^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$/.test(name) && !/-(\.|$)|(^|\.)-/.test(name)
    ? name
    : undefined;

/**
 * cloud-init does once for each instance what it is told: the same VM with the same data is the same
 * instance at every start; with other data it is another, so that they are heeded; so is a clone.
 */
function instanceId(uuid: string, { slot: _, ...data }: CloudInit): string {
  const digest = createHash("sha256").update(JSON.stringify(data, sorted)).digest("hex");
  return `${uuid}-${digest.slice(0, 12)}`;
}

/** For JSON.stringify(): members by name, so that their order makes no other instance. */
const sorted = (_: string, value: unknown): unknown =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;
