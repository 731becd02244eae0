/**
 * btrfs. Little-endian (fs/btrfs, struct btrfs_super_block); offsets within the superblock at 64 KiB, the one that the
 * kernel mounts by:
 *
 * | offset | size | field                                                             |
 * |--------|------|-------------------------------------------------------------------|
 * |      0 |   32 | csum, of all 4096 bytes behind it                                 |
 * |     32 |   16 | fsid                                                              |
 * |     64 |    8 | magic                                                             |
 * |     96 |    8 | log_root: where the log tree is, 0 for none                       |
 * |    112 |    8 | total_bytes, of all devices                                       |
 * |    144 |    4 | sectorsize                                                        |
 * |    196 |    2 | csum_type                                                         |
 * |    299 |  256 | label                                                             |
 */

import { createHash } from 'node:crypto';
import { crc32c } from '../../common/crc32.ts';
import { decodeLabel, decodeUuid, toSizeBytes } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';
import { xxhash64 } from './xxhash64.ts';

const SUPERBLOCK_OFFSET = 65536;
const SUPERBLOCK_BYTES = 4096;
const CSUM_BYTES = 32;
const MAGIC = '_BHRfS_M';

export const btrfs: Prober = {
  minimumBytes: 1024 * 1024,
  probe(source): FileSystemProbe | undefined {
    const bytes = source.read(SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES);
    if (bytes?.toString('latin1', 64, 72) !== MAGIC || !hasValidChecksum(bytes)) return undefined;
    if (bytes.readUInt32LE(144) === 0) return undefined;
    return {
      type: 'btrfs',
      label: decodeLabel(bytes.subarray(299, 555)),
      uuid: decodeUuid(bytes.subarray(32, 48)),
      // Transactions are atomic; the log tree holds what was synchronized since the last one, and only a mount replays it.
      isDirty: bytes.readBigUInt64LE(96) !== 0n,
      sizeBytes: toSizeBytes(bytes.readBigUInt64LE(112), 1),
    };
  },
};

function hasValidChecksum(bytes: Buffer): boolean {
  const data = bytes.subarray(CSUM_BYTES);
  switch (bytes.readUInt16LE(196)) {
    case 0:
      return ~crc32c(data) >>> 0 === bytes.readUInt32LE(0);
    case 1:
      return xxhash64(data) === bytes.readBigUInt64LE(0);
    case 2:
      return createHash('sha256').update(data).digest().equals(bytes.subarray(0, CSUM_BYTES));
    default:
      // BLAKE2b with 32 bytes, which node:crypto does not have, and what is to come: as libblkid, on the magic alone.
      return true;
  }
}
