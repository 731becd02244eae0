/**
 * ext2, ext3, ext4 and their journal devices. Little-endian (Documentation/filesystems/ext4/super.rst); offsets within the
 * superblock at 1024:
 *
 * | offset | size | field                                                                |
 * |--------|------|----------------------------------------------------------------------|
 * |      4 |    4 | s_blocks_count_lo                                                    |
 * |     24 |    4 | s_log_block_size: the block size is 1024 << this                     |
 * |     56 |    2 | s_magic                                                              |
 * |     58 |    2 | s_state: bit 0 cleanly unmounted, bit 1 errors detected              |
 * |     92 |    4 | s_feature_compat                                                     |
 * |     96 |    4 | s_feature_incompat                                                   |
 * |    100 |    4 | s_feature_ro_compat                                                  |
 * |    104 |   16 | s_uuid                                                               |
 * |    120 |   16 | s_volume_name                                                        |
 * |    336 |    4 | s_blocks_count_hi, with the feature 64bit                            |
 * |    352 |    4 | s_flags                                                              |
 * |   1020 |    4 | s_checksum, with the feature metadata_csum: CRC32c of what is before |
 */

import { crc32c } from '../../common/crc32.ts';
import { decodeLabel, decodeUuid, toSizeBytes } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';

const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_BYTES = 1024;
const CHECKSUM_OFFSET = 1020;
const EXT4_SUPER_MAGIC = 0xef53;

const EXT4_VALID_FS = 0x1;
const EXT4_ERROR_FS = 0x2;
const EXT2_FLAGS_TEST_FILESYS = 0x4;

const COMPAT_HAS_JOURNAL = 0x4;
const INCOMPAT_RECOVER = 0x4;
const INCOMPAT_JOURNAL_DEV = 0x8;
const INCOMPAT_64BIT = 0x80;
const RO_COMPAT_METADATA_CSUM = 0x400;

/** Features that ext2 knows: filetype, meta_bg; sparse_super, large_file, btree_dir. ext3 knows recovery as well. */
const EXT2_INCOMPAT = 0x12;
const EXT3_INCOMPAT = EXT2_INCOMPAT | INCOMPAT_RECOVER;
const EXT3_RO_COMPAT = 0x7;

/** Linux has no blocks above 64 KiB (EXT4_MAX_BLOCK_LOG_SIZE). */
const MAX_LOG_BLOCK_SIZE = 6;

export const ext: Prober = {
  probe(source): FileSystemProbe | undefined {
    const bytes = source.read(SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES);
    if (bytes?.readUInt16LE(56) !== EXT4_SUPER_MAGIC) return undefined;
    const logBlockSize = bytes.readUInt32LE(24);
    if (logBlockSize > MAX_LOG_BLOCK_SIZE) return undefined;
    const incompat = bytes.readUInt32LE(96);
    const roCompat = bytes.readUInt32LE(100);
    if (roCompat & RO_COMPAT_METADATA_CSUM && !hasValidChecksum(bytes)) return undefined;
    const high = incompat & INCOMPAT_64BIT ? bytes.readUInt32LE(336) : 0;
    return {
      type: typeOf(bytes.readUInt32LE(92), incompat, roCompat, bytes.readUInt32LE(352)),
      label: decodeLabel(bytes.subarray(120, 136)),
      uuid: decodeUuid(bytes.subarray(104, 120)),
      isDirty: incompat & INCOMPAT_JOURNAL_DEV ? undefined : isDirty(bytes.readUInt16LE(58), incompat),
      sizeBytes: toSizeBytes(high * 2 ** 32 + bytes.readUInt32LE(4), 1024 << logBlockSize),
    };
  },
};

function hasValidChecksum(bytes: Buffer): boolean {
  return crc32c(bytes.subarray(0, CHECKSUM_OFFSET)) === bytes.readUInt32LE(CHECKSUM_OFFSET);
}

/** libblkid/src/superblocks/ext.c: the oldest file system that has all of the features. */
function typeOf(compat: number, incompat: number, roCompat: number, flags: number): string {
  if (incompat & INCOMPAT_JOURNAL_DEV) return 'jbd';
  if (incompat & ~EXT3_INCOMPAT || roCompat & ~EXT3_RO_COMPAT) {
    return flags & EXT2_FLAGS_TEST_FILESYS ? 'ext4dev' : 'ext4';
  }
  if (compat & COMPAT_HAS_JOURNAL) return 'ext3';
  // Only a file system with a journal recovers from it; the kernel mounts this one as ext4 only (ext4_feature_set_ok).
  return incompat & ~EXT2_INCOMPAT ? 'ext4' : 'ext2';
}

/**
 * With a journal the kernel marks a mounted file system by needs_recovery alone, without one by taking VALID_FS away
 * (fs/ext4/super.c, ext4_setup_super). ERROR_FS counts as well: the structure was seen broken and e2fsck(8) would check it
 * in full, also after a clean unmount.
 */
function isDirty(state: number, incompat: number): boolean {
  return (incompat & INCOMPAT_RECOVER) !== 0 || !(state & EXT4_VALID_FS) || (state & EXT4_ERROR_FS) !== 0;
}
