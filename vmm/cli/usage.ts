import { VERSION } from "../version.js";

export const USAGE = `Usage: xhyve [-ACeHhMPuvwWxY] [-c vcpus] [-F pidfile] [-l lpc] [-m mem] [-s pci] [-U uuid]
             [--accel auto|soft|kvm|hvf] [--cpu stable|host] [--reboot] [--json-events file]
             -f fw
       xhyve --restore folder [--reboot] [--json-events file]

  -A       ACPI tables
  -c N     number of vCPUs, 1 to 64 (1)
  -e       an access that no device answers ends the VM
  -f FW    firmware: kexec,KERNEL[,INITRD[,CMDLINE]]
           or multiboot,KERNEL[,MODULE[;ARGS][:MODULE[;ARGS]]...[,CMDLINE]]
  -F FILE  write the process id to a new file, removed at the end
  -h       this text
  -l LPC   com1|com2[,BACKEND][,log=FILE], debugexit, testdev; with BACKEND stdio,
           autopty[=LINK], a terminal's path, file=FILE, socket=FILE or null
  -m SIZE  memory: MiB, or with a unit b, k, m, g, t (256)
  -M       print the MAC address of the first network card and end; needs -f too
  -s PCI   [[BUS:]SLOT[:FUNC]],DEVICE: a device on the PCI bus, see below
  -u       the RTC keeps UTC (else local time)
  -U UUID  of the guest
  -v       version
  -w       unknown MSRs read 0 and swallow writes
  -W       virtio devices have MSI of one message instead of MSI-X
  -x       local APICs start in x2APIC mode
  -Y       no MP table
  -C -H -P accepted for the original's sake
  --accel NAME        auto (default), soft, kvm or hvf
  --cpu MODEL         stable (default): the same CPU on every host and accelerator; or host:
                      this host's own, with accelerator kvm
  --reboot            a guest's reset restarts it here instead of exiting with 0
  --json-events FILE  append a line of JSON for every change of state
  --restore FOLDER    go on from a saved state
  --help              this text and examples

Devices of -s:
  hostbridge, amd_hostbridge, lpc, dummy, virtio-rnd
  uart[,BACKEND][,log=FILE], virtio-console[,BACKEND][,log=FILE]   as in -l
  virtio-blk,DISK, ahci-hd,DISK, ahci-cd[,FILE[,format=FORMAT]]
  ahci,hd:DISK,cd:[FILE],...                  one controller of 1 to 32 ports
  virtio-net[,NETWORK][,CARD...]              (vmnet on macOS, user elsewhere)
  virtio-tap,NAME[,bridge=NAME][,CARD...], virtio-vmnet[,MODE][,CARD...]
  virtio-sock,guest_cid=N,path=SOCKET
DISK is FILE[,OPTION...]; options: ro, sync, direct (as sync), nocache (past the page cache),
  sectorsize=LOGICAL[/PHYSICAL], format=raw|qcow|qcow2|nbd, backing=raw|qcow2:FILE (nearest
  first), scratch=FOLDER (writes go to a file that is thrown away), export=NAME (of nbd)
NETWORK is user[,tcp=[ADDRESS/]HOST:GUEST][,udp=...], tap[=NAME][,bridge=NAME], switch=NAME,
  stream=SOCKET, vmnet[=MODE] or none; CARD is mac=MAC, mtu=BYTES
MODE is shared, host or bridged:INTERFACE

Exit status: 0 guest reset, 1 guest power-off (and errors before the start), 2 guest halt,
3 triple fault, 64 bad -m or -l, 100 stopped, 128+N ended by signal N.
`;

export const EXAMPLES = `
Examples:
  A Linux kernel to a shell on this terminal:
    xhyve -A -m 512M -c 2 -s 0:0,hostbridge -s 31,lpc -l com1,stdio \\
      -f kexec,vmlinuz,initrd.gz,"console=ttyS0"
  The console on a pseudo-terminal, with a name to find it by:
    xhyve -A -m 1G -s 0:0,hostbridge -s 31,lpc -l com1,autopty=/tmp/vm-console \\
      -f kexec,vmlinuz,initrd.gz,"console=ttyS0"
  A disk, and randomness for the guest:
    xhyve -A -m 1G -s 0:0,hostbridge -s 31,lpc -s 3,virtio-blk,disk.img -s 4,virtio-rnd \\
      -l com1,stdio -f kexec,vmlinuz,initrd.gz,"console=ttyS0 root=/dev/vda"
  A Multiboot kernel that ends the VM with a status of its own:
    xhyve -s 31,lpc -l com1,stdio -l debugexit -f multiboot,kernel.elf
`;

export const versionText = (): string => `xhyve: ${VERSION}

xhyve runs one virtual machine in the foreground: bhyve's machine over Hypervisor.framework,
KVM or a software CPU. It is part of xhyved.
`;
