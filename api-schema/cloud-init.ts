// What a guest's cloud-init is given at its first boot (cloud-init's documentation, "NoCloud"): the
// daemon makes a disc of it, which lies in a CD drive of the VM's own.
import { type Static, Type } from "@sinclair/typebox";
import { closed, PciSlot } from "./shape.js";

const MAX_TEXT = 256 * 1024;

/** The first words that cloud-init knows ("User-Data Formats"). */
const FORMATS = [
  ...["#!", "#cloud-config", "#cloud-config-archive", "#cloud-boothook", "#include"],
  ...["#include-once", "#part-handler", "## template: jinja", "Content-Type: multipart/"],
  "MIME-Version: ",
];

const UserData = Type.Union(
  [
    Type.String({ maxLength: MAX_TEXT, pattern: `^(${FORMATS.join("|")})` }),
    Type.Record(Type.String(), Type.Unknown()),
  ],
  {
    description:
      "a text of at most 262144 characters that starts with #cloud-config, #! or another format of cloud-init's, or an object: a cloud-config",
  },
);

const HostName = Type.String({
  maxLength: 253,
  pattern:
    "^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$",
  description: "a host name of letters, digits, hyphens and dots (RFC 1123, section 2.1)",
});

const AuthorizedKey = Type.String({
  maxLength: 16384,
  pattern: "^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\\u0000-\\u001f]*)?$",
  description: "a line of authorized_keys: TYPE KEY [COMMENT]",
});

export const CloudInit = closed({
  /** Of the CD drive; one is assigned, and kept, where absent. */
  slot: Type.Optional(PciSlot),
  /** The VM's name where absent, if it is one that a host can have. */
  hostname: Type.Optional(HostName),
  /** Of the distribution's own user, and root's as the distribution allows. */
  sshAuthorizedKeys: Type.Optional(Type.Array(AuthorizedKey, { maxItems: 64 })),
  userData: Type.Optional(UserData),
  /** Laid over what the daemon says: `instance-id`, `local-hostname`, `public-keys`. */
  metaData: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  /** Networking config of version 1 or 2, without a `network` around it. */
  networkConfig: Type.Optional(
    Type.Object(
      { version: Type.Integer({ minimum: 1, maximum: 2 }) },
      { additionalProperties: true },
    ),
  ),
});

export type CloudInit = Static<typeof CloudInit>;
