// VIRTIO 1.2, "Block Device": feature bits, configuration layout, requests.
export const BLK_FEATURE = {
  segMax: 2,
  readOnly: 5,
  blkSize: 6,
  flush: 9,
  topology: 10,
  multiQueue: 12,
  discard: 13,
  writeZeroes: 14,
} as const;

/** "Device configuration layout", struct virtio_blk_config. */
export const CONFIG = {
  capacity: 0,
  segMax: 12,
  blkSize: 20,
  physicalBlockExp: 24,
  writeback: 32,
  numQueues: 34,
  maxDiscardSectors: 36,
  maxDiscardSegments: 40,
  discardAlignment: 44,
  maxZeroesSectors: 48,
  maxZeroesSegments: 52,
  zeroesMayUnmap: 56,
  length: 60,
} as const;

/** Capacity and request offsets are in these, whatever the logical sector. */
export const SECTOR = 512;

/** "Device Operation", struct virtio_blk_req. */
export const REQUEST = {
  read: 0,
  write: 1,
  flush: 4,
  /** Of drivers older than virtio 1. */
  flushOut: 5,
  getId: 8,
  discard: 11,
  writeZeroes: 13,
} as const;
/** "VIRTIO_BLK_T_BARRIER" of old drivers. */
export const BARRIER = 0x80000000;
export const HEADER_LENGTH = 16;
export const ID_LENGTH = 20;

/** struct virtio_blk_discard_write_zeroes: sector, count, flags. */
export const RANGE = { length: 16, sector: 0, count: 8, flags: 12, unmap: 1 } as const;

export const STATUS = { ok: 0, ioError: 1, unsupported: 2 } as const;
