// VIRTIO 1.2, "Network Device": numbers of its sections, by title.

/** "Feature bits" */
export const NET_FEATURE = {
  checksum: 0,
  guestChecksum: 1,
  controlGuestOffloads: 2,
  mtu: 3,
  mac: 5,
  guestTso4: 7,
  guestTso6: 8,
  guestEcn: 9,
  guestUfo: 10,
  hostTso4: 11,
  hostTso6: 12,
  hostEcn: 13,
  hostUfo: 14,
  mergeable: 15,
  status: 16,
  controlQueue: 17,
  controlRx: 18,
  controlVlan: 19,
  controlRxExtra: 20,
  announce: 21,
  controlMac: 23,
} as const;

/** "Device configuration layout": mac, status, max_virtqueue_pairs, mtu. */
export const CONFIG = { mac: 0, status: 6, pairs: 8, mtu: 10, length: 12 } as const;
export const STATUS = { linkUp: 1, announce: 2 } as const;

export const QUEUE = { receive: 0, transmit: 1, control: 2 } as const;

/** struct virtio_net_hdr without num_buffers, and with it. */
export const HEADER = { short: 10, long: 12 } as const;

/** "Control Virtqueue": class, command, then what the command says; and the answer. */
export const CONTROL = {
  rx: { class: 0, promiscuous: 0, noBroadcast: 5 },
  mac: { class: 1, table: 0, address: 1 },
  vlan: { class: 2, add: 0, remove: 1 },
  announce: { class: 3, acknowledge: 0 },
  offloads: { class: 5, set: 0 },
} as const;
export const ACK = { ok: 0, error: 1 } as const;

/** "Packet Receive Filtering": commands 0 to 5 set and clear one of NetFilter's mode bits each. */
export const RX_MODE = { promiscuous: 1, allMulticast: 2, allUnicast: 4 } as const;
