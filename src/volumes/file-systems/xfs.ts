/**
 * XFS. Big-endian (fs/xfs/libxfs/xfs_format.h, struct xfs_dsb):
 *
 * | offset | size | field                                                              |
 * |--------|------|--------------------------------------------------------------------|
 * |      0 |    4 | sb_magicnum "XFSB"                                                 |
 * |      4 |    4 | sb_blocksize                                                       |
 * |      8 |    8 | sb_dblocks                                                         |
 * |     32 |   16 | sb_uuid                                                            |
 * |     48 |    8 | sb_logstart: a block (group number, then block within it), or 0    |
 * |     80 |    4 | sb_rextsize                                                        |
 * |     84 |    4 | sb_agblocks                                                        |
 * |     88 |    4 | sb_agcount                                                         |
 * |     96 |    4 | sb_logblocks                                                       |
 * |    100 |    2 | sb_versionnum: the low digit is the version                        |
 * |    102 |    2 | sb_sectsize                                                        |
 * |    104 |    2 | sb_inodesize                                                       |
 * |    108 |   12 | sb_fname                                                           |
 * |    120 |    5 | sb_blocklog, sb_sectlog, sb_inodelog, sb_inopblog, sb_agblklog     |
 * |    127 |    1 | sb_imax_pct                                                        |
 * |    200 |    4 | sb_features2                                                       |
 * |    224 |    4 | sb_crc, little-endian, version 5: of the sector with zeros here    |
 */

import { crc32c } from '../../common/crc32.ts';
import { decodeLabel, decodeUuid, toSizeBytes } from './fields.ts';
import type { FileSystemProbe, Prober } from './file-system-probe.ts';
import type { ProbeSource } from './probe-source.ts';
import { isXfsLogClean } from './xfs-log.ts';

const SUPERBLOCK_BYTES = 512;
const MAGIC = 'XFSB';
const CRC_OFFSET = 224;
const VERSION_MASK = 0xf;
const VERSION_5 = 5;
const VERSION_MOREBITS = 0x8000;
const VERSION2_CRC = 0x100;

const SECTOR_LOG = { min: 9, max: 15 };
const BLOCK_LOG = { min: 9, max: 16 };
const INODE_LOG = { min: 8, max: 11 };
const MIN_RTEXT_BYTES = 4096;
const MAX_RTEXT_BYTES = 2 ** 30;
const MIN_AG_BLOCKS = 64;
/** XFS_MAX_LOG_BYTES, which mkfs.xfs keeps to (2 GiB - XFS_MIN_LOG_BYTES). */
const MAX_LOG_BYTES = 2 ** 31;

export const xfs: Prober = {
  probe(source): FileSystemProbe | undefined {
    const bytes = source.read(0, SUPERBLOCK_BYTES);
    if (bytes?.toString('latin1', 0, 4) !== MAGIC || !isValid(bytes) || !hasValidChecksum(source, bytes))
      return undefined;
    const isClean = isLogClean(source, bytes);
    return {
      type: 'xfs',
      label: decodeLabel(bytes.subarray(108, 120)),
      uuid: decodeUuid(bytes.subarray(32, 48)),
      isDirty: isClean === undefined ? undefined : !isClean,
      sizeBytes: toSizeBytes(bytes.readBigUInt64BE(8), bytes.readUInt32BE(4)),
    };
  },
};

/** xfs_verify_sb() of libblkid/src/superblocks/xfs.c */
function isValid(bytes: Buffer): boolean {
  const blockLog = bytes.readUInt8(120);
  const inodeLog = bytes.readUInt8(122);
  const groupBlocks = BigInt(bytes.readUInt32BE(84));
  const groupCount = BigInt(bytes.readUInt32BE(88));
  const dataBlocks = bytes.readBigUInt64BE(8);
  const rtextBytes = bytes.readUInt32BE(80) * bytes.readUInt32BE(4);
  return (
    isSize(bytes.readUInt16BE(102), bytes.readUInt8(121), SECTOR_LOG) &&
    isSize(bytes.readUInt32BE(4), blockLog, BLOCK_LOG) &&
    isSize(bytes.readUInt16BE(104), inodeLog, INODE_LOG) &&
    blockLog - inodeLog === bytes.readUInt8(123) &&
    rtextBytes >= MIN_RTEXT_BYTES &&
    rtextBytes <= MAX_RTEXT_BYTES &&
    bytes.readUInt8(127) <= 100 &&
    groupCount > 0n &&
    dataBlocks > 0n &&
    dataBlocks <= groupCount * groupBlocks &&
    dataBlocks >= (groupCount - 1n) * groupBlocks + BigInt(MIN_AG_BLOCKS)
  );
}

function isSize(size: number, log: number, range: { min: number; max: number }): boolean {
  return log >= range.min && log <= range.max && size === 2 ** log;
}

function hasValidChecksum(source: ProbeSource, bytes: Buffer): boolean {
  const version = bytes.readUInt16BE(100);
  if ((version & VERSION_MASK) !== VERSION_5) return true;
  if (!(version & VERSION_MOREBITS) || !(bytes.readUInt32BE(200) & VERSION2_CRC)) return false;
  const sector = source.read(0, bytes.readUInt16BE(102));
  if (sector === undefined) return false;
  const stored = sector.readUInt32LE(CRC_OFFSET);
  sector.writeUInt32LE(0, CRC_OFFSET);
  return ~crc32c(sector) >>> 0 === stored;
}

/** A log on a device of its own (sb_logstart is 0) is not here to be looked at. */
function isLogClean(source: ProbeSource, bytes: Buffer): boolean | undefined {
  const blockBytes = bytes.readUInt32BE(4);
  const groupBlocks = bytes.readUInt32BE(84);
  const groupShift = BigInt(bytes.readUInt8(124));
  const start = bytes.readBigUInt64BE(48);
  const lengthBytes = bytes.readUInt32BE(96) * blockBytes;
  if (start === 0n || lengthBytes === 0 || lengthBytes > MAX_LOG_BYTES) return undefined;
  const block = (start >> groupShift) * BigInt(groupBlocks) + BigInt.asUintN(Number(groupShift), start);
  const offset = Number(block) * blockBytes;
  return offset + lengthBytes > source.sizeBytes ? undefined : isXfsLogClean(source, offset, lengthBytes);
}
