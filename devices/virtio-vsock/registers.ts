// VIRTIO 1.2, "Socket Device": numbers of its sections, by title, and its packets.

export const HOST_CID = 2;
export const CONFIG_LENGTH = 8;
export const QUEUE = { receive: 0, transmit: 1, event: 2 } as const;
/** VIRTIO_VSOCK_F_STREAM */
export const STREAM_FEATURE = 0;

/** "Device Operation": struct virtio_vsock_hdr. */
export const HEADER_LENGTH = 44;
export const TYPE_STREAM = 1;
export const OP = {
  request: 1,
  response: 2,
  rst: 3,
  shutdown: 4,
  rw: 5,
  creditUpdate: 6,
  creditRequest: 7,
} as const;
/** "Stream Sockets": what a shutdown says will not be done any more. */
export const SHUTDOWN = { receive: 1, send: 2 } as const;
/** "Device Events": the transport has been reset, all connections are gone. */
export const EVENT_TRANSPORT_RESET = 0;

export interface Packet {
  readonly sourceCid: number;
  readonly targetCid: number;
  readonly sourcePort: number;
  readonly targetPort: number;
  readonly length: number;
  readonly type: number;
  readonly op: number;
  readonly flags: number;
  readonly bufferSize: number;
  readonly forwarded: number;
}

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Addresses of 64 bits whose upper half says something are nobody's. */
export function readHeader(bytes: Uint8Array): Packet {
  const view = viewOf(bytes);
  return {
    sourceCid: Number(view.getBigUint64(0, true)),
    targetCid: Number(view.getBigUint64(8, true)),
    sourcePort: view.getUint32(16, true),
    targetPort: view.getUint32(20, true),
    length: view.getUint32(24, true),
    type: view.getUint16(28, true),
    op: view.getUint16(30, true),
    flags: view.getUint32(32, true),
    bufferSize: view.getUint32(36, true),
    forwarded: view.getUint32(40, true),
  };
}

export function writeHeader(packet: Packet): Uint8Array {
  const bytes = new Uint8Array(HEADER_LENGTH);
  const view = viewOf(bytes);
  view.setBigUint64(0, BigInt(packet.sourceCid), true);
  view.setBigUint64(8, BigInt(packet.targetCid), true);
  view.setUint32(16, packet.sourcePort, true);
  view.setUint32(20, packet.targetPort, true);
  view.setUint32(24, packet.length, true);
  view.setUint16(28, packet.type, true);
  view.setUint16(30, packet.op, true);
  view.setUint32(32, packet.flags, true);
  view.setUint32(36, packet.bufferSize, true);
  view.setUint32(40, packet.forwarded, true);
  return bytes;
}
