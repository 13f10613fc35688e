// All firmware tables of a machine as pieces to place, and what the loaders must know of them.
import type { Firmware } from "../../api-schema/definition.js";
import type { Gpa } from "../../native/types.js";
import type { Piece } from "../loaders/plan.js";
import { acpiTables } from "./acpi.js";
import type { FirmwareConfig } from "./config.js";
import { mpTable } from "./mptable.js";
import { smbiosTables } from "./smbios.js";

export interface FirmwareTables {
  readonly pieces: readonly Piece[];
  /** The ACPI root pointer. */
  readonly rsdp?: Gpa;
}

export function firmwareTables(
  config: FirmwareConfig,
  flags: Pick<Firmware, "acpi" | "mpTable">,
): FirmwareTables {
  const pieces: Piece[] = [{ what: "the SMBIOS tables", ...smbiosTables(config) }];
  if (flags.mpTable) pieces.push({ what: "the MP table", ...mpTable(config) });
  if (!flags.acpi) return { pieces };
  const { at, bytes, rsdp } = acpiTables(config);
  return { pieces: [...pieces, { what: "the ACPI tables", at, bytes }], rsdp };
}

export type { FirmwareConfig } from "./config.js";
