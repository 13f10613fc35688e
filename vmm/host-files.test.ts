import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openDisk } from "./disks.js";
import { filesBeneath, givenFile } from "./host-files.js";

let folder: string;
let shared: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "xhyved-files-"));
  shared = join(folder, "shared");
  mkdirSync(shared);
  writeFileSync(join(folder, "outside"), "not for guests");
  writeFileSync(join(shared, "inside"), "for guests");
});
afterEach(() => rmSync(folder, { recursive: true }));

const free = (): boolean => true;
const read = (path: string): string => {
  const fd = filesBeneath([shared], free).open(path, constants.O_RDONLY);
  try {
    return readFileSync(fd, "utf8");
  } finally {
    closeSync(fd);
  }
};

describe("files beneath a folder", () => {
  it("are opened, by links too that stay there", () => {
    symlinkSync("inside", join(shared, "link"));
    expect([read(join(shared, "inside")), read(join(shared, "link"))]).toEqual([
      "for guests",
      "for guests",
    ]);
  });

  it("are made with the mode that is asked for", () => {
    const path = join(shared, "new");
    const { O_WRONLY, O_CREAT, O_EXCL } = constants;
    const make = () => filesBeneath([shared], free).open(path, O_WRONLY | O_CREAT | O_EXCL, 0o600);
    closeSync(make());
    expect(make).toThrow("EEXIST");
  });

  it.each([
    ["another folder's", "../outside", /in none of/],
    ["a link's that leads out", "out", /EXDEV|ELOOP/],
    ["beneath a folder's that leads out", "up/outside", /EXDEV|ELOOP/],
  ])("are never %s", (_, name, why) => {
    symlinkSync("../outside", join(shared, "out"));
    symlinkSync("..", join(shared, "up"));
    expect(() => read(join(shared, name))).toThrow(why);
  });

  it("are what a disk is opened from, whatever was put there since it was looked at", async () => {
    const path = join(shared, "disk");
    writeFileSync(path, Buffer.alloc(4096));
    const files = filesBeneath([shared], free);
    (await openDisk({ path }, files)).close();
    rmSync(path);
    symlinkSync(join(folder, "outside"), path);
    await expect(openDisk({ path }, files)).rejects.toMatchObject({ code: "IMAGE_UNUSABLE" });
  });
});

it("a file that was handed over is opened once, whatever its name leads to", async () => {
  writeFileSync(join(folder, "disc"), Buffer.alloc(8192));
  const given = givenFile(openSync(join(folder, "disc"), "r"), free);
  const disc = await openDisk({ path: "/closed/to/us.iso", readOnly: true }, given);
  expect(disc.geometry.size).toBe(8192);
  expect(given.isTaken).toBe(true);
  await expect(openDisk({ path: "/another", readOnly: true }, given)).rejects.toThrow("only one");
  disc.close();
});
