// From a definition's `boot` to a plan: opens the files, finds out what the kernel is.
import type { LinuxBoot, MultibootBoot } from "../../api-schema/definition.js";
import { VmError } from "../../api-schema/errors.js";
import type { HostFiles } from "../host-files.js";
import * as bzimage from "./bzimage.js";
import { isElf, parseElf } from "./elf.js";
import { FileImage, type Image } from "./image.js";
import * as multiboot from "./multiboot.js";
import type { BootPlan, GuestLayout } from "./plan.js";
import * as vmlinux from "./vmlinux.js";

/** The files of one VM, kept open since its start: a reset makes the same plan again. */
export interface BootImages {
  plan(guest: GuestLayout): BootPlan;
  close(): void;
}

type Open = (path: string) => Image;

/** The host's files as images. */
export const imagesFrom =
  ({ open }: Pick<HostFiles, "open">): Open =>
  (path) =>
    new FileImage(path, open);

export function openImages(boot: LinuxBoot | MultibootBoot, open: Open): BootImages {
  const images: Image[] = [];
  const close = (): void => {
    for (const image of images.splice(0)) image.close();
  };
  const openOne = (path: string): Image => {
    const image = open(path);
    images.push(image);
    return image;
  };
  try {
    const plan = boot.kind === "linux" ? linux(boot, openOne) : multibootPlan(boot, openOne);
    return { plan, close };
  } catch (error) {
    close();
    throw error;
  }
}

type Plan = (guest: GuestLayout) => BootPlan;

function linux(boot: LinuxBoot, open: Open): Plan {
  const kernel = open(boot.kernel);
  const initrd = boot.initrd === undefined ? undefined : open(boot.initrd);
  const input = { kernel, initrd, cmdline: boot.cmdline };
  if (bzimage.isBzImage(kernel)) {
    const parsed = bzimage.parse(kernel);
    return (guest) => bzimage.plan(parsed, input, guest);
  }
  if (isElf(kernel)) {
    const elf = parseElf(kernel);
    return (guest) => vmlinux.plan(elf, input, guest);
  }
  throw new VmError("KERNEL_UNKNOWN_FORMAT", [kernel.name]);
}

function multibootPlan(boot: MultibootBoot, open: Open): Plan {
  const kernel = open(boot.kernel);
  const modules = (boot.modules ?? []).map(({ file, args }) => ({ image: open(file), args }));
  return (guest) => multiboot.plan({ kernel, modules, cmdline: boot.cmdline }, guest);
}

export { applyEntry, applyFirmware, type BootPlan, type GuestLayout, place } from "./plan.js";
