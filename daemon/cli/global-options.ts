// The options that every command has, before its name or after it.
import type { Options } from "./command.js";

export const globalOptions = {
  socket: {
    type: "string",
    short: "s",
    value: "FILE",
    help: "the daemon's socket ($XHYVED_SOCKET)",
  },
  url: { type: "string", value: "URL", help: "the daemon over TCP, such as http://127.0.0.1:8006" },
  "token-file": { type: "string", value: "FILE", help: "the token for TCP" },
  "ca-file": {
    type: "string",
    value: "FILE",
    help: "the certificate to check an https daemon's by",
  },
  json: { type: "boolean", help: "answer in JSON" },
  help: { type: "boolean", short: "h", help: "this text, or a command's" },
} as const satisfies Options;
