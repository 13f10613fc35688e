export * from "./actions.js";
export * from "./daemon-api.js";
export * from "./definition.js";
export { BackingImage, type DiskSource } from "./disk.js";
export * from "./errors.js";
export { parse } from "./validate.js";
export * from "./vm-process.js";
export * from "./vm-rpc.js";
