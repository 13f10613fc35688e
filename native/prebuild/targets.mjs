// What a bundle is built for: the host in Node's terms, the same in Zig's, the file format and
// machine that must come out, and the frameworks it may load.

const LINUX_LIBRARIES = [
  "libc.so.6",
  "libm.so.6",
  "libpthread.so.0",
  "libdl.so.2",
  "librt.so.1",
  "libutil.so.1",
  "ld-linux-x86-64.so.2",
  "ld-linux-aarch64.so.1",
];
const SYSTEM = "/usr/lib/libSystem.B.dylib";
const framework = (name) => `/System/Library/Frameworks/${name}.framework/Versions/A/${name}`;

// glibc 2.28 is Debian 10's and RHEL 8's, as old as Node 20 itself runs on.
export const targets = [
  {
    platform: "linux",
    arch: "x64",
    zig: "x86_64-linux-gnu.2.28",
    format: "ELF",
    machine: "x86-64",
    libraries: LINUX_LIBRARIES,
    frameworks: { vmm: [], host: [] },
  },
  {
    platform: "linux",
    arch: "arm64",
    zig: "aarch64-linux-gnu.2.28",
    format: "ELF",
    machine: "arm64",
    libraries: LINUX_LIBRARIES,
    frameworks: { vmm: [], host: [] },
  },
  {
    platform: "darwin",
    arch: "x64",
    zig: "x86_64-macos",
    format: "Mach-O",
    machine: "x86-64",
    libraries: [SYSTEM, framework("Hypervisor"), framework("vmnet")],
    frameworks: { vmm: ["Hypervisor", "vmnet"], host: [] },
  },
  {
    platform: "darwin",
    arch: "arm64",
    zig: "aarch64-macos",
    format: "Mach-O",
    machine: "arm64",
    libraries: [SYSTEM, framework("vmnet")],
    frameworks: { vmm: ["vmnet"], host: [] },
  },
];

export const nameOf = ({ platform, arch }) => `${platform}-${arch}`;
