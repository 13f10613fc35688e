// Numbers of the Virtual I/O Device (VIRTIO) specification, version 1.2, and of its "Legacy
// Interface" notes (virtio 0.9.5), by section title.

export const VIRTIO_VENDOR = 0x1af4;
/** "PCI Device Discovery": a device without a transitional id has this plus its device type. */
export const MODERN_DEVICE_BASE = 0x1040;

/** "Device Status Field" */
export const STATUS = {
  acknowledge: 0x01,
  driver: 0x02,
  driverOk: 0x04,
  featuresOk: 0x08,
  needsReset: 0x40,
  failed: 0x80,
} as const;

/** "Reserved Feature Bits", and those of the legacy interface. */
export const FEATURE = {
  notifyOnEmpty: 24,
  anyLayout: 27,
  indirect: 28,
  eventIndex: 29,
  version1: 32,
  packed: 34,
} as const;

/** "Legacy Interface: Reserved Feature Bits": a driver of virtio 1 must not take them. */
export const LEGACY_ONLY_FEATURES: readonly number[] = [FEATURE.notifyOnEmpty, FEATURE.anyLayout];

/** "ISR status capability" */
export const ISR = { queue: 0x01, config: 0x02 } as const;

/** No interrupt vector: "MSI-X Vector Configuration". */
export const NO_VECTOR = 0xffff;

/** "The Virtqueue Descriptor Table" and "Descriptor flags" of packed rings: the same bits. */
export const DESCRIPTOR = {
  size: 16,
  next: 0x0001,
  write: 0x0002,
  indirect: 0x0004,
  available: 0x0080,
  used: 0x8000,
} as const;

/** "The Virtqueue Available Ring": flags, idx, ring[], used_event. */
export const AVAILABLE = { flags: 0, index: 2, ring: 4, entry: 2, noInterrupt: 0x0001 } as const;
/** "The Virtqueue Used Ring": flags, idx, ring[], avail_event. */
export const USED = { flags: 0, index: 2, ring: 4, entry: 8 } as const;

/** "Event Suppression Structure Format" of packed rings. */
export const EVENT = {
  offset: 0,
  flags: 2,
  size: 4,
  enable: 0,
  disable: 1,
  descriptor: 2,
} as const;

/** "Legacy Interfaces: A Note on Virtqueue Layout": page frame number and used ring. */
export const LEGACY_ALIGN = 4096;

/** More than any driver needs; what a chain may cost us at most. Our choice. */
export const MAX_CHAIN = 1024;

export const maskOf = (features: readonly number[]): bigint =>
  features.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);
