/**
 * The qcow2 header (docs/interop/qcow2.txt, "Header"), big-endian. Bytes only: no policy, no I/O.
 *
 * | offset | size | field                          |
 * |--------|------|--------------------------------|
 * |      0 |    4 | magic "QFI\xfb"                |
 * |      4 |    4 | version                        |
 * |      8 |    8 | backing_file_offset            |
 * |     16 |    4 | backing_file_size              |
 * |     20 |    4 | cluster_bits                   |
 * |     24 |    8 | size                           |
 * |     32 |    4 | crypt_method                   |
 * |     36 |    4 | l1_size                        |
 * |     40 |    8 | l1_table_offset                |
 * |     48 |    8 | refcount_table_offset          |
 * |     56 |    4 | refcount_table_clusters        |
 * |     60 |    4 | nb_snapshots                   |
 * |     64 |    8 | snapshots_offset               |
 * |     72 |    8 | incompatible_features (v3)     |
 * |     80 |    8 | compatible_features (v3)       |
 * |     88 |    8 | autoclear_features (v3)        |
 * |     96 |    4 | refcount_order (v3)            |
 * |    100 |    4 | header_length (v3)             |
 * |    104 |    1 | compression_type (if in length)|
 */

import { readU64BE, writeU64BE } from '../../common/bytes.ts';

/** "QFI\xfb" */
export const QCOW_MAGIC = 0x514649fb;
export const QCOW2_V2_HEADER_BYTES = 72;
export const QCOW2_V3_HEADER_BYTES = 104;

export const CRYPT_METHOD_OFFSET = 32;

/** The bytes of nb_snapshots and snapshots_offset. */
export const SNAPSHOT_FIELDS_START = 60;
export const SNAPSHOT_FIELDS_END = 72;

/** Incompatible feature bits. */
export const QCOW2_INCOMPAT_DIRTY = 1n << 0n;
export const QCOW2_INCOMPAT_CORRUPT = 1n << 1n;
export const QCOW2_INCOMPAT_DATA_FILE = 1n << 2n;
export const QCOW2_INCOMPAT_COMPRESSION = 1n << 3n;
export const QCOW2_INCOMPAT_EXTL2 = 1n << 4n;

/** Compatible feature bits. */
export const QCOW2_COMPAT_LAZY_REFCOUNTS = 1n << 0n;

/** Values of crypt_method. */
export const QCOW_CRYPT_NONE = 0;
export const QCOW_CRYPT_AES = 1;
export const QCOW_CRYPT_LUKS = 2;
/** Autoclear feature bits. */
export const QCOW2_AUTOCLEAR_BITMAPS = 1n << 0n;
export const QCOW2_AUTOCLEAR_DATA_FILE_RAW = 1n << 1n;

export const QCOW2_COMPRESSION_TYPE_ZLIB = 0;
export const QCOW2_COMPRESSION_TYPE_ZSTD = 1;

export interface Header {
  readonly version: number;
  readonly backingFileOffset: number;
  readonly backingFileSize: number;
  readonly clusterBits: number;
  /** Virtual size in bytes as stored, not rounded. */
  readonly size: number;
  readonly cryptMethod: number;
  /** Entries of the active L1 table. */
  readonly l1Size: number;
  readonly l1TableOffset: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  readonly snapshotCount: number;
  readonly snapshotsOffset: number;
  readonly incompatibleFeatures: bigint;
  readonly compatibleFeatures: bigint;
  readonly autoclearFeatures: bigint;
  readonly refcountOrder: number;
  readonly headerLength: number;
  readonly compressionType: number;
}

/** As an error names it, in `data.field`. */
export const SIZE_FIELD = 'header field size';

/**
 * Decodes a header from at least 72 bytes (version 2), or 104 and up to 112 bytes (version 3). Fields that version 2
 * does not have get the values that the specification assumes for it.
 * @throws Qcow2fsError DAMAGED for a 64-bit field above 2^53 - 1.
 */
export function decodeHeader(bytes: Buffer): Header {
  const version = bytes.readUInt32BE(4);
  const isV3 = version >= 3;
  const headerLength = isV3 ? bytes.readUInt32BE(100) : QCOW2_V2_HEADER_BYTES;
  return {
    version,
    backingFileOffset: readU64BE(bytes, 8, 'header field backing_file_offset'),
    backingFileSize: bytes.readUInt32BE(16),
    clusterBits: bytes.readUInt32BE(20),
    size: readU64BE(bytes, 24, SIZE_FIELD),
    cryptMethod: bytes.readUInt32BE(32),
    l1Size: bytes.readUInt32BE(36),
    l1TableOffset: readU64BE(bytes, 40, 'header field l1_table_offset'),
    refcountTableOffset: readU64BE(bytes, 48, 'header field refcount_table_offset'),
    refcountTableClusters: bytes.readUInt32BE(56),
    snapshotCount: bytes.readUInt32BE(60),
    snapshotsOffset: readU64BE(bytes, 64, 'header field snapshots_offset'),
    incompatibleFeatures: isV3 ? bytes.readBigUInt64BE(72) : 0n,
    compatibleFeatures: isV3 ? bytes.readBigUInt64BE(80) : 0n,
    autoclearFeatures: isV3 ? bytes.readBigUInt64BE(88) : 0n,
    refcountOrder: isV3 ? bytes.readUInt32BE(96) : 4,
    headerLength,
    compressionType: isV3 && headerLength > 104 && bytes.length > 104 ? bytes.readUInt8(104) : 0,
  };
}

/** Encodes the 104 bytes of a header of version 3; `headerLength` and `compressionType` have no other value then. */
export function encodeHeader(header: Omit<Header, 'version' | 'headerLength' | 'compressionType'>): Buffer {
  const bytes = Buffer.alloc(QCOW2_V3_HEADER_BYTES);
  bytes.writeUInt32BE(QCOW_MAGIC, 0);
  bytes.writeUInt32BE(3, 4);
  writeU64BE(bytes, header.backingFileOffset, 8);
  bytes.writeUInt32BE(header.backingFileSize, 16);
  bytes.writeUInt32BE(header.clusterBits, 20);
  writeU64BE(bytes, header.size, 24);
  bytes.writeUInt32BE(header.cryptMethod, 32);
  bytes.writeUInt32BE(header.l1Size, 36);
  writeU64BE(bytes, header.l1TableOffset, 40);
  writeU64BE(bytes, header.refcountTableOffset, 48);
  bytes.writeUInt32BE(header.refcountTableClusters, 56);
  bytes.writeUInt32BE(header.snapshotCount, 60);
  writeU64BE(bytes, header.snapshotsOffset, 64);
  bytes.writeBigUInt64BE(header.incompatibleFeatures, 72);
  bytes.writeBigUInt64BE(header.compatibleFeatures, 80);
  bytes.writeBigUInt64BE(header.autoclearFeatures, 88);
  bytes.writeUInt32BE(header.refcountOrder, 96);
  bytes.writeUInt32BE(QCOW2_V3_HEADER_BYTES, 100);
  return bytes;
}
