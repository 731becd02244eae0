/** The refcounts of an image, read by a decoder of its own: for images that QEMU wrote. */

import fs from 'node:fs';

/** Clusters with a refcount of 1 or more, by their numbers. */
export function clustersInUse(imagePath: string): Set<number> {
  const bytes = fs.readFileSync(imagePath);
  const clusterBits = bytes.readUInt32BE(20);
  const clusterBytes = 2 ** clusterBits;
  const tableOffset = Number(bytes.readBigUInt64BE(48));
  const tableBytes = bytes.readUInt32BE(56) * clusterBytes;
  const order = bytes.readUInt32BE(4) >= 3 ? bytes.readUInt32BE(96) : 4;
  const bits = 2 ** order;
  const perBlock = (clusterBytes * 8) / bits;
  const used = new Set<number>();
  for (let entry = 0; entry < tableBytes / 8; entry++) {
    const block = Number(bytes.readBigUInt64BE(tableOffset + entry * 8));
    if (block === 0) continue;
    for (let index = 0; index < perBlock; index++) {
      if (isNotZero(bytes, block, index, bits)) used.add(entry * perBlock + index);
    }
  }
  return used;
}

/** Where the snapshot table lies: deleting a snapshot writes another one. */
export function snapshotTableClusters(imagePath: string): Set<number> {
  const bytes = fs.readFileSync(imagePath);
  const clusterBytes = 2 ** bytes.readUInt32BE(20);
  const [count, start] = [bytes.readUInt32BE(60), Number(bytes.readBigUInt64BE(64))];
  let end = start;
  for (let index = 0; index < count; index++) {
    const lengths = bytes.readUInt32BE(end + 36) + bytes.readUInt16BE(end + 12) + bytes.readUInt16BE(end + 14);
    end += Math.ceil((40 + lengths) / 8) * 8;
  }
  const clusters = new Set<number>();
  for (let at = start; at < end; at += clusterBytes) clusters.add(Math.floor(at / clusterBytes));
  return clusters;
}

function isNotZero(bytes: Buffer, block: number, index: number, bits: number): boolean {
  if (bits < 8)
    return ((bytes[block + Math.floor((index * bits) / 8)] ?? 0) & (((1 << bits) - 1) << ((index * bits) % 8))) !== 0;
  const start = block + (index * bits) / 8;
  return bytes.subarray(start, start + bits / 8).some((byte) => byte !== 0);
}
