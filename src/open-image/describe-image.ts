/**
 * What `list --json`, `info --json`, `image.json` and `info.json` say. Keys are camelCase, byte counts end in `Bytes`,
 * dates are ISO 8601 in UTC; scripts rely on them, so they stay as they are.
 */

import { toIsoDate } from '../common/dates.ts';
import { decodeName } from '../common/names.ts';
import { mapSequence, type Sequence } from '../common/sequence.ts';
import type { Bitmap } from '../qcow2/bitmaps.ts';
import type { Qcow2Metadata } from '../qcow2/open-qcow2.ts';
import type { Snapshot } from '../qcow2/snapshots.ts';
import { unsupportedFeatures } from '../qcow2/unsupported-features.ts';
import { BME_FLAG_AUTO, BME_FLAG_IN_USE } from '../qcow2/wire/bitmaps.ts';
import {
  QCOW2_AUTOCLEAR_DATA_FILE_RAW,
  QCOW2_COMPAT_LAZY_REFCOUNTS,
  QCOW2_COMPRESSION_TYPE_ZSTD,
  QCOW2_INCOMPAT_CORRUPT,
  QCOW2_INCOMPAT_DIRTY,
} from '../qcow2/wire/header.ts';
import { describeEncryption, type EncryptionDescription } from './describe-encryption.ts';
import type { Layer } from './layers.ts';
import { type ImageHeader, snapshotsOf } from './open-image.ts';

export interface SnapshotDescription {
  readonly id: string;
  readonly name: string;
  /** The exact bytes in hexadecimal, for a name that is not UTF-8. */
  readonly nameHex: string | undefined;
  readonly date: string;
  /** The date to the nanosecond is `date` and this. */
  readonly dateNanoseconds: number;
  readonly virtualSizeBytes: number;
  readonly vmStateBytes: number;
  readonly vmClockNanoseconds: string;
  readonly icount: string | null;
}

export interface CurrentDescription {
  readonly virtualSizeBytes: number;
}

export interface ImageList {
  readonly image: string;
  readonly current: CurrentDescription;
  readonly snapshots: Sequence<SnapshotDescription>;
  readonly problems: readonly string[];
}

/** A persistent bitmap. */
export interface BitmapDescription {
  readonly name: string;
  /** The exact bytes in hexadecimal, for a name that is not UTF-8. */
  readonly nameHex: string | undefined;
  /** What one bit stands for. */
  readonly granularityBytes: number;
  /** As in `qemu-img info`. */
  readonly flags: readonly ('in-use' | 'auto')[];
  /** False if it may lack writes: it is `in-use`, or a program that does not know bitmaps wrote to the image since. */
  readonly consistent: boolean;
}

export interface LayerDescription {
  readonly file: string;
  readonly format: 'qcow2' | 'raw';
  readonly virtualSizeBytes: number;
  readonly fileSizeBytes: number;
  readonly encryption: EncryptionDescription | null;
}

export interface ImageInfo extends ImageList {
  readonly format: 'qcow2';
  readonly version: number;
  readonly fileSizeBytes: number;
  readonly allocatedFileBytes: number;
  readonly clusterSizeBytes: number;
  readonly refcountBits: number;
  readonly compressionType: 'zlib' | 'zstd';
  readonly extendedL2: boolean;
  readonly lazyRefcounts: boolean;
  readonly dirty: boolean;
  readonly corrupt: boolean;
  /** null for an image that is not encrypted. */
  readonly encryption: EncryptionDescription | null;
  /** The name of the external data file in the image; null if there is none. */
  readonly dataFile: string | null;
  /** True if the external data file is a raw image of the disk by itself. */
  readonly dataFileRaw: boolean;
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  /** The image, then its backing files as far as they could be opened. */
  readonly chain: readonly LayerDescription[];
  readonly bitmaps: readonly BitmapDescription[];
  /** What is good to know about the image, one line each, without being a problem. */
  readonly notes: readonly string[];
  /** Features that keep this version from mounting the image. */
  readonly unsupportedFeatures: readonly string[];
}

const REBASE_NOTE = 'the snapshots have no backing file of their own: a rebase of the image changes what they read';

export function describeList(image: ImageHeader): ImageList {
  const { layers, qcow2, problems } = image;
  return {
    image: layers[0]?.file.path ?? '',
    current: describeCurrent(qcow2),
    snapshots: mapSequence(snapshotsOf(image), describeSnapshot),
    problems,
  };
}

export function describeInfo(image: ImageHeader): ImageInfo {
  const { qcow2, layers } = image;
  const { header } = qcow2;
  const { image: path, current, snapshots, problems } = describeList(image);
  return {
    image: path,
    format: 'qcow2',
    version: header.version,
    fileSizeBytes: layers[0]?.file.sizeBytes ?? 0,
    allocatedFileBytes: layers[0]?.file.allocatedBytes ?? 0,
    clusterSizeBytes: qcow2.clusterBytes,
    refcountBits: 2 ** header.refcountOrder,
    compressionType: header.compressionType === QCOW2_COMPRESSION_TYPE_ZSTD ? 'zstd' : 'zlib',
    extendedL2: qcow2.hasExtendedL2,
    lazyRefcounts: (header.compatibleFeatures & QCOW2_COMPAT_LAZY_REFCOUNTS) !== 0n,
    dirty: (header.incompatibleFeatures & QCOW2_INCOMPAT_DIRTY) !== 0n,
    corrupt: (header.incompatibleFeatures & QCOW2_INCOMPAT_CORRUPT) !== 0n,
    encryption: describeEncryption(qcow2.encryption),
    dataFile: qcow2.hasDataFile ? decodeName(qcow2.dataFileName ?? '').text : null,
    dataFileRaw: qcow2.hasDataFile && (header.autoclearFeatures & QCOW2_AUTOCLEAR_DATA_FILE_RAW) !== 0n,
    backingFile: qcow2.backingName === undefined ? null : decodeName(qcow2.backingName).text,
    backingFormat: qcow2.backingFormat ?? null,
    chain: layers.map(describeLayer),
    bitmaps: image.bitmaps.bitmaps.map((bitmap) => describeBitmap(bitmap, image.bitmaps.areUpToDate)),
    notes: qcow2.backingName !== undefined && snapshots.length > 0 ? [REBASE_NOTE] : [],
    unsupportedFeatures: unsupportedFeatures(qcow2),
    current,
    snapshots,
    problems: [...problems, ...image.bitmaps.problems],
  };
}

export function describeCurrent(qcow2: Qcow2Metadata): CurrentDescription {
  return { virtualSizeBytes: qcow2.sizeBytes };
}

export function describeSnapshot({ entry, sizeBytes }: Snapshot): SnapshotDescription {
  // Not spread, as in decodeSnapshotEntry.
  const { name, nameHex } = describeName(entry.name);
  return {
    id: decodeName(entry.id).text,
    name,
    nameHex,
    date: toIsoDate(entry.dateSeconds),
    dateNanoseconds: entry.dateNanoseconds,
    virtualSizeBytes: sizeBytes,
    vmStateBytes: entry.vmStateBytes,
    // 64-bit counters: as text, since JSON readers take numbers for doubles.
    vmClockNanoseconds: String(entry.vmClockNanoseconds),
    icount: entry.icount === undefined ? null : String(entry.icount),
  };
}

function describeBitmap({ name, granularityBits, flags }: Bitmap, areUpToDate: boolean): BitmapDescription {
  const isInUse = (flags & BME_FLAG_IN_USE) !== 0;
  return {
    ...describeName(name),
    granularityBytes: 2 ** granularityBits,
    flags: [...(isInUse ? ['in-use' as const] : []), ...((flags & BME_FLAG_AUTO) !== 0 ? ['auto' as const] : [])],
    consistent: areUpToDate && !isInUse,
  };
}

/** `name` has one character per byte (latin1). */
function describeName(name: string): Pick<SnapshotDescription, 'name' | 'nameHex'> {
  const { text, isExact } = decodeName(name);
  return { name: text, nameHex: isExact ? undefined : Buffer.from(name, 'latin1').toString('hex') };
}

function describeLayer({ file, qcow2 }: Layer): LayerDescription {
  return {
    file: file.path,
    format: qcow2 === undefined ? 'raw' : 'qcow2',
    virtualSizeBytes: qcow2?.sizeBytes ?? Math.ceil(file.sizeBytes / 512) * 512,
    fileSizeBytes: file.sizeBytes,
    encryption: describeEncryption(qcow2?.encryption),
  };
}
