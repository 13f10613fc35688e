// ATA Command Set - 3 (ACS-3): what disks and packet devices have in common.

/** "STATUS field" */
export const STATUS = {
  error: 0x01,
  dataRequest: 0x08,
  seekComplete: 0x10,
  ready: 0x40,
  busy: 0x80,
} as const;
/** A device at rest. */
export const READY = STATUS.ready | STATUS.seekComplete;

/** "ERROR field" */
export const ERROR = { abort: 0x04, idNotFound: 0x10, uncorrectable: 0x40 } as const;

/** "DEVICE field": LBA addressing; forced unit access of queued writes. */
export const DEVICE = { lba: 0x40, fua: 0x80 } as const;

/** After a reset: "Device Signatures"; the bits of PxSIG. */
export const SIGNATURE = { disk: 0x0000_0101, packet: 0xeb14_0101 } as const;
/** "Diagnostic codes": device 0 passed. */
export const DIAGNOSTIC_PASSED = 0x01;

/** "Command codes" */
export const COMMAND = {
  nop: 0x00,
  dataSetManagement: 0x06,
  deviceReset: 0x08,
  recalibrate: 0x10,
  readSectors: 0x20,
  readSectorsNoRetry: 0x21,
  readSectorsExt: 0x24,
  readDmaExt: 0x25,
  readMultipleExt: 0x29,
  readLogExt: 0x2f,
  writeSectors: 0x30,
  writeSectorsNoRetry: 0x31,
  writeSectorsExt: 0x34,
  writeDmaExt: 0x35,
  writeMultipleExt: 0x39,
  writeDmaFuaExt: 0x3d,
  readVerify: 0x40,
  readVerifyNoRetry: 0x41,
  readVerifyExt: 0x42,
  readLogDmaExt: 0x47,
  readFpdma: 0x60,
  writeFpdma: 0x61,
  sendFpdma: 0x64,
  seek: 0x70,
  diagnostic: 0x90,
  initializeParameters: 0x91,
  packet: 0xa0,
  identifyPacket: 0xa1,
  smart: 0xb0,
  readMultiple: 0xc4,
  writeMultiple: 0xc5,
  setMultiple: 0xc6,
  readDma: 0xc8,
  readDmaNoRetry: 0xc9,
  writeDma: 0xca,
  writeDmaNoRetry: 0xcb,
  writeMultipleFuaExt: 0xce,
  standbyImmediate: 0xe0,
  idleImmediate: 0xe1,
  standby: 0xe2,
  idle: 0xe3,
  checkPower: 0xe5,
  sleep: 0xe6,
  flush: 0xe7,
  flushExt: 0xea,
  identify: 0xec,
  setFeatures: 0xef,
} as const;

const QUEUED: ReadonlySet<number> = new Set([
  COMMAND.readFpdma,
  COMMAND.writeFpdma,
  COMMAND.sendFpdma,
]);
export const isQueued = (command: number): boolean => QUEUED.has(command);

/** SET FEATURES, "Feature" */
export const FEATURE = {
  enableWriteCache: 0x02,
  setTransferMode: 0x03,
  enableSata: 0x10,
  disableLookAhead: 0x55,
  disableRevert: 0x66,
  disableWriteCache: 0x82,
  disableSata: 0x90,
  enableLookAhead: 0xaa,
  enableRevert: 0xcc,
} as const;
/** "Enable/disable the SATA feature set" */
export const SATA_FEATURE = {
  autoActivate: 0x02,
  devicePower: 0x03,
  notification: 0x05,
  preservation: 0x06,
} as const;
