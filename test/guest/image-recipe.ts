// What the Debian server of the tests is made of. The image is kept under the digest of all this: a
// change here makes a new one.

export const SUITE = "bookworm";
export const SIZE = 1536 * 2 ** 20;

/** Besides debootstrap's smallest set. */
export const PACKAGES = [
  ...["systemd-sysv", "dbus", "udev", "kmod", "openssh-server", "openssh-client"],
  ...["iproute2", "iputils-ping", "pciutils", "hdparm", "ethtool", "dmidecode", "acpica-tools"],
  ...["util-linux", "eject"],
] as const;

/** Laid on top by apt, which configures what they need first, as debootstrap does not. */
export const LATER = ["cloud-init"] as const;

/** Folders below a kernel's modules whose hardware no machine of ours has. */
export const LEFT_OUT = [
  ...["sound", "drivers/gpu", "drivers/media", "drivers/infiniband", "drivers/staging"],
  ...["drivers/iio", "drivers/hwmon", "drivers/usb", "drivers/isdn", "drivers/bluetooth"],
  ...["drivers/net/ethernet", "drivers/net/wireless", "drivers/net/usb", "drivers/net/can"],
  ...["net/bluetooth", "net/mac80211", "net/wireless", "net/can", "drivers/mtd", "drivers/md"],
  ...["fs/xfs", "fs/btrfs", "fs/ocfs2", "fs/gfs2", "fs/ceph", "fs/f2fs", "fs/nfs", "fs/nfsd"],
] as const;

/** Units that a server of one test has no use for. */
export const MASKED = [
  ...["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"],
  ...["e2scrub_all.timer", "e2scrub_reap.service", "getty@tty1.service"],
  "systemd-networkd-wait-online.service",
] as const;

export const ENABLED = ["systemd-networkd.service", "ssh.service"] as const;

/** As the package manager writes the root: nobody reads its manual, and a crash makes a new one. */
export const DPKG_RULES = `force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/info/*
path-exclude=/usr/share/locale/*
`;

/** Cards on a PCI slot below 16 get an address; those above are the tests' to set. */
const NETWORK = `[Match]
Driver=virtio_net
Path=pci-0000:00:0*

[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no

[DHCPv4]
ClientIdentifier=mac
`;

export const FILES: Readonly<Record<string, string>> = {
  "etc/hostname": "debian\n",
  "etc/hosts": "127.0.0.1 localhost debian\n",
  "etc/machine-id": "8b1f0e3a5c7d4e2f9a6b3c1d0e5f7a29\n",
  "etc/fstab": "LABEL=root / ext4 defaults,errors=remount-ro 0 0\n",
  "root/.hushlogin": "",
  // Only a kernel's command line with `cloud-init=enabled` has it run, and look for a seed.
  "etc/cloud/cloud-init.disabled": "",
  // What takes long here, or what this small root lacks.
  "etc/cloud/cloud.cfg.d/90-tests.cfg": "locale: C.UTF-8\nssh_genkeytypes: [ed25519]\n",
  "etc/systemd/network/10-dhcp.network": NETWORK,
};

/** Run inside, by its own shell, when all is unpacked. */
export const LAST_STEPS = `
passwd -q -d root
usermod -s /bin/sh root
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/*.log
touch /etc/.updated /var/.updated
`;
