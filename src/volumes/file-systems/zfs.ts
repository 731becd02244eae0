/**
 * ZFS pool members: a name-value list in XDR, 16 KiB into a label of 256 KiB ("ZFS On-Disk Specification", section 1.3;
 * module/nvpair/nvpair.c), big-endian:
 *
 * | offset | size | field                                                       |
 * |--------|------|-------------------------------------------------------------|
 * |      0 |    1 | encoding: 1 is XDR                                          |
 * |      1 |    1 | byte order of the host: 0 or 1                              |
 * |      4 |    8 | version and flags of the list                               |
 * |     12 |      | pairs, up to one with size 0                                |
 *
 * A pair: its size, its decoded size, the length of its name, the name padded to 4 bytes, its type, its count of elements, and
 * its value: 8 bytes (uint64), or a length and text (string), each padded to 4 bytes.
 */

import { decodeLabel } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';

const LABEL_BYTES = 256 * 1024;
/** The other two are at the end of the disk: those of a last partition that is the member would be taken for the disk's. */
const LABEL_COUNT = 2;
const LIST_OFFSET = 16 * 1024;
const LIST_BYTES = 112 * 1024;
const FIRST_PAIR = 12;
const PAIR_HEAD_BYTES = 12;

const DATA_TYPE_UINT64 = 8;
const DATA_TYPE_STRING = 9;
const STATE_SPARE = 3n;
const STATE_L2CACHE = 4n;
const MAX_STATE = 7n;

export const zfs: Prober = {
  minimumBytes: 64 * 1024 * 1024,
  probe(source): FileSystemProbe | undefined {
    for (let index = 0; index < LABEL_COUNT; index++) {
      const offset = index * LABEL_BYTES + LIST_OFFSET;
      const head = source.read(offset, FIRST_PAIR + 4);
      if (head === undefined || head[0] !== 1 || head.readUInt8(1) > 1 || head.readUInt32BE(FIRST_PAIR) === 0) continue;
      const list = source.read(offset, LIST_BYTES);
      const pairs = list && decodePairs(list);
      if (pairs === undefined || !isMember(pairs)) continue;
      const name = pairs.get('name');
      return {
        type: 'zfs_member',
        label: Buffer.isBuffer(name) ? decodeLabel(name) : undefined,
        uuid: pairs.get('pool_guid')?.toString(),
        isDirty: undefined,
        sizeBytes: undefined,
      };
    }
    return undefined;
  },
};

/** The numbers and texts of the outermost list; undefined if it is malformed. */
function decodePairs(list: Buffer): Map<string, bigint | Buffer> | undefined {
  const pairs = new Map<string, bigint | Buffer>();
  let offset = FIRST_PAIR;
  while (offset + PAIR_HEAD_BYTES <= list.length) {
    const size = list.readUInt32BE(offset);
    if (size === 0) return pairs;
    const nameBytes = list.readUInt32BE(offset + 8);
    const value = PAIR_HEAD_BYTES + Math.ceil(nameBytes / 4) * 4;
    if (size > list.length - offset || value + 8 > size) return undefined;
    const pair = list.subarray(offset, offset + size);
    const name = pair.toString('latin1', PAIR_HEAD_BYTES, PAIR_HEAD_BYTES + nameBytes);
    const decoded = decodeValue(pair.subarray(value));
    if (decoded !== undefined) pairs.set(name, decoded);
    offset += size;
  }
  return undefined;
}

/** Lists within the list, and types that no probe needs, are undefined. */
function decodeValue(value: Buffer): bigint | Buffer | undefined {
  const type = value.readUInt32BE(0);
  if (type === DATA_TYPE_UINT64 && value.length >= 16) return value.readBigUInt64BE(8);
  if (type !== DATA_TYPE_STRING || value.length < 12) return undefined;
  const length = value.readUInt32BE(8);
  return length > value.length - 12 ? undefined : value.subarray(12, 12 + length);
}

/** As libblkid and vdev_label_read_config() ask for it: a label without these was never, or is no longer, a member's. */
function isMember(pairs: ReadonlyMap<string, bigint | Buffer>): boolean {
  const guid = pairs.get('guid');
  const state = pairs.get('state');
  const txg = pairs.get('txg');
  if (typeof guid !== 'bigint' || guid === 0n || typeof state !== 'bigint' || state > MAX_STATE) return false;
  return state === STATE_SPARE || state === STATE_L2CACHE || (typeof txg === 'bigint' && txg > 0n);
}
