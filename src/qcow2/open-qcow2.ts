/** Opens a qcow2 file: reads its header and extensions and checks what everything else relies on. */

import { messageOf, Qcow2fsError } from '../errors.ts';
import { readExactly, type Storage } from '../storage/storage.ts';
import { type Encryption, readEncryption } from './encryption.ts';
import { type HeaderExtensions, readExtensions, textOf } from './header-extensions.ts';
import type { HeaderProblem } from './header-problem.ts';
import {
  MAX_BACKING_NAME_BYTES,
  MAX_CLUSTER_BITS,
  MAX_REFCOUNT_ORDER,
  MAX_REFCOUNT_TABLE_BYTES,
  MIN_CLUSTER_BITS,
  MIN_EXTL2_CLUSTER_BITS,
  SECTOR_BYTES,
} from './limits.ts';
import {
  decodeHeader,
  type Header,
  QCOW_MAGIC,
  QCOW2_COMPRESSION_TYPE_ZLIB,
  QCOW2_COMPRESSION_TYPE_ZSTD,
  QCOW2_INCOMPAT_COMPRESSION,
  QCOW2_INCOMPAT_DATA_FILE,
  QCOW2_INCOMPAT_EXTL2,
  QCOW2_V2_HEADER_BYTES,
  QCOW2_V3_HEADER_BYTES,
  SIZE_FIELD,
} from './wire/header.ts';
import {
  decodeFeatureNames,
  type FeatureName,
  QCOW2_EXT_MAGIC_BACKING_FORMAT,
  QCOW2_EXT_MAGIC_CRYPTO_HEADER,
  QCOW2_EXT_MAGIC_DATA_FILE,
  QCOW2_EXT_MAGIC_FEATURE_TABLE,
} from './wire/header-extensions.ts';
import {
  type DISK_FORMATS,
  FOOTER_BYTES,
  GUESS_BYTES,
  guessFormat,
  guessFormatByFooter,
} from './wire/other-formats.ts';

/** A checked header with what its extensions say: plain data, so that a worker thread can be given it. */
export interface Qcow2Metadata {
  readonly header: Header;
  readonly clusterBytes: number;
  /** Virtual size of the current state: the header's, rounded down to a sector, as QEMU counts it. */
  readonly sizeBytes: number;
  readonly hasExtendedL2: boolean;
  /** The backing file name as stored, one character per byte (latin1); undefined if there is none. */
  readonly backingName: string | undefined;
  /** The format of the backing file, such as `qcow2` or `raw`, if the image names it. */
  readonly backingFormat: string | undefined;
  /** Why the format of the backing file is not known, if the image may have named one that cannot be read. */
  readonly lostBackingFormat: string | undefined;
  /** True if the clusters of the guest are in another file, at the offsets that they have in the guest. */
  readonly hasDataFile: boolean;
  /** The name of that file as stored, one character per byte (latin1), if the image has one. */
  readonly dataFileName: string | undefined;
  readonly featureNames: readonly FeatureName[];
  /** undefined for an image that is not encrypted. */
  readonly encryption: Encryption | undefined;
  /** Damage that does not keep the image from being read. */
  readonly problems: readonly HeaderProblem[];
}

/** A qcow2 file that can be read. */
export interface Qcow2File extends Qcow2Metadata {
  readonly storage: Storage;
  /** Where the clusters of the guest are: `storage`, or the external data file. */
  readonly dataStorage: Storage;
}

/** Longest header that is looked at; later fields do not exist yet. */
const HEADER_BYTES_READ = 112;

/** True if the storage starts with the magic of qcow2 (which version 1 shares). */
export function hasQcowMagic(storage: Storage): boolean {
  const magic = Buffer.alloc(4);
  return storage.readUpTo(magic, 0, 4, 0) === 4 && magic.readUInt32BE(0) === QCOW_MAGIC;
}

/**
 * Reads and checks the header of an image.
 * @throws Qcow2fsError NOT_QCOW2, DAMAGED (naming the field) or PAST_END. Features are not judged here: see
 * `unsupportedFeatures`.
 */
export function openQcow2(storage: Storage): Qcow2File {
  const header = readHeader(storage);
  checkHeader(storage, header);
  const clusterBytes = 2 ** header.clusterBits;
  const backingName = readBackingName(storage, header, clusterBytes);
  const extensions = readExtensions(storage, header, clusterBytes);
  const find = (type: number) => extensions.byType.get(type);
  const encryption = readEncryption(storage, header.cryptMethod, find(QCOW2_EXT_MAGIC_CRYPTO_HEADER), clusterBytes);
  const featureTable = find(QCOW2_EXT_MAGIC_FEATURE_TABLE)?.data;
  return {
    storage,
    dataStorage: storage,
    header,
    clusterBytes,
    sizeBytes: header.size - (header.size % SECTOR_BYTES),
    hasExtendedL2: (header.incompatibleFeatures & QCOW2_INCOMPAT_EXTL2) !== 0n,
    backingName,
    ...readBackingFormat(extensions),
    hasDataFile: (header.incompatibleFeatures & QCOW2_INCOMPAT_DATA_FILE) !== 0n,
    dataFileName: readDataFileName(extensions),
    featureNames: featureTable === undefined ? [] : decodeFeatureNames(featureTable),
    encryption,
    problems: [...extensions.problems, ...(encryption?.format === 'damaged' ? [encryption.problem] : [])],
  };
}

/**
 * The format of the backing file. A name that is too long, or an extension behind which all is lost, may have been the one
 * that names it.
 */
function readBackingFormat({
  byType,
  problems,
}: HeaderExtensions): Pick<Qcow2Metadata, 'backingFormat' | 'lostBackingFormat'> {
  const tooLong = problems.find(({ field }) => field === 'backing_format');
  const extension = byType.get(QCOW2_EXT_MAGIC_BACKING_FORMAT);
  const stated = extension === undefined ? '' : textOf(extension).toString('utf8');
  // An empty one is none: QEMU's bdrv_open_backing_file.
  if (tooLong === undefined && stated !== '') {
    return { backingFormat: stated, lostBackingFormat: undefined };
  }
  const cause = tooLong ?? problems.find(({ field }) => field === 'header_extension');
  return { backingFormat: undefined, lostBackingFormat: cause?.message };
}

/** Not one that is longer than a path can be: cut, it may be that of another file. */
function readDataFileName({ byType, problems }: HeaderExtensions): string | undefined {
  const extension = byType.get(QCOW2_EXT_MAGIC_DATA_FILE);
  const isTooLong = problems.some(({ field }) => field === 'data_file');
  return extension === undefined || isTooLong ? undefined : textOf(extension).toString('latin1');
}

function readHeader(storage: Storage): Header {
  const bytes = Buffer.alloc(HEADER_BYTES_READ);
  const count = storage.readUpTo(bytes, 0, HEADER_BYTES_READ, 0);
  if (count < 4 || bytes.readUInt32BE(0) !== QCOW_MAGIC) {
    throw notQcow2(storage);
  }
  const version = count >= 8 ? bytes.readUInt32BE(4) : 0;
  if (count >= 8 && version !== 2 && version !== 3) {
    const reason =
      version === 1
        ? 'qcow version 1, which `qemu-img convert -O qcow2` converts'
        : `qcow version ${version}, but only 2 and 3 are known`;
    throw new Qcow2fsError('NOT_QCOW2', `${storage.name} is not a qcow2 image: ${reason}`, {
      data: { file: storage.name, version },
    });
  }
  const needed = version === 3 ? QCOW2_V3_HEADER_BYTES : QCOW2_V2_HEADER_BYTES;
  if (count < needed) {
    throw new Qcow2fsError('PAST_END', `${storage.name}: the file ends inside the header, after ${count} bytes`, {
      data: { file: storage.name, sizeBytes: count },
    });
  }
  try {
    return decodeHeader(bytes.subarray(0, count));
  } catch (cause) {
    // QEMU takes up to 2 EiB, with the largest clusters.
    const isTooLarge = cause instanceof Qcow2fsError && cause.data.field === SIZE_FIELD;
    const hint = isTooLarge ? ': a disk of 8 PiB or more is not supported' : '';
    throw new Qcow2fsError('DAMAGED', `${storage.name}: ${messageOf(cause)}${hint}`, { cause });
  }
}

/** What a file looks like, among the formats of `signatures`; undefined for none of them. */
export function lookOf(storage: Storage, signatures?: typeof DISK_FORMATS): string | undefined {
  const head = Buffer.alloc(GUESS_BYTES);
  return guessFormat(head.subarray(0, storage.readUpTo(head, 0, GUESS_BYTES, 0)), signatures);
}

function lookOfEnd(storage: Storage): string | undefined {
  const footer = Buffer.alloc(FOOTER_BYTES);
  const position = storage.sizeBytes - FOOTER_BYTES;
  if (position < 0 || storage.readUpTo(footer, 0, FOOTER_BYTES, position) < FOOTER_BYTES) return undefined;
  return guessFormatByFooter(footer);
}

function notQcow2(storage: Storage): Qcow2fsError {
  const format = lookOfEnd(storage) ?? lookOf(storage);
  const reason =
    storage.sizeBytes === 0
      ? 'it is empty'
      : format === undefined
        ? 'it does not start with "QFI\\xfb"'
        : `it looks like ${format}`;
  return new Qcow2fsError('NOT_QCOW2', `${storage.name} is not a qcow2 image: ${reason}`, {
    data: { file: storage.name, format: format ?? null },
  });
}

function checkHeader(storage: Storage, header: Header): void {
  const fail = (field: string, value: number, rule: string): never => {
    throw new Qcow2fsError('DAMAGED', `${storage.name}: header field ${field} is ${value}, but ${rule}`, {
      data: { file: storage.name, field, value },
    });
  };
  const { clusterBits } = header;
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    fail('cluster_bits', clusterBits, `must be ${MIN_CLUSTER_BITS} to ${MAX_CLUSTER_BITS}`);
  }
  const clusterBytes = 2 ** clusterBits;
  if (header.version >= 3 && (header.headerLength < QCOW2_V3_HEADER_BYTES || header.headerLength > clusterBytes)) {
    fail('header_length', header.headerLength, `must be ${QCOW2_V3_HEADER_BYTES} to ${clusterBytes}`);
  }
  if (header.refcountOrder > MAX_REFCOUNT_ORDER) {
    fail('refcount_order', header.refcountOrder, `must be at most ${MAX_REFCOUNT_ORDER}`);
  }
  if (header.refcountTableClusters * clusterBytes > MAX_REFCOUNT_TABLE_BYTES) {
    fail('refcount_table_clusters', header.refcountTableClusters, `the table may be 8 MiB at most`);
  }
  if ((header.incompatibleFeatures & QCOW2_INCOMPAT_EXTL2) !== 0n && clusterBits < MIN_EXTL2_CLUSTER_BITS) {
    fail('cluster_bits', clusterBits, `must be at least ${MIN_EXTL2_CLUSTER_BITS} with extended L2 entries`);
  }
  checkCompressionType(storage, header);
}

/** The type and its feature bit belong together: the specification demands a set bit exactly for types other than 0. */
function checkCompressionType(storage: Storage, header: Header): void {
  const hasBit = (header.incompatibleFeatures & QCOW2_INCOMPAT_COMPRESSION) !== 0n;
  const { compressionType } = header;
  const data = { file: storage.name, field: 'compression_type', value: compressionType };
  if (compressionType !== QCOW2_COMPRESSION_TYPE_ZLIB && compressionType !== QCOW2_COMPRESSION_TYPE_ZSTD) {
    throw new Qcow2fsError('UNSUPPORTED', `${storage.name}: unknown compression type ${compressionType}`, { data });
  }
  if (hasBit !== (compressionType !== QCOW2_COMPRESSION_TYPE_ZLIB)) {
    throw new Qcow2fsError(
      'DAMAGED',
      `${storage.name}: header field compression_type is ${compressionType}, but its feature bit is ${hasBit ? 'set' : 'not set'}`,
      { data },
    );
  }
}

function readBackingName(storage: Storage, header: Header, clusterBytes: number): string | undefined {
  const { backingFileOffset, backingFileSize } = header;
  if (backingFileOffset === 0) return undefined;
  if (backingFileSize > MAX_BACKING_NAME_BYTES || backingFileOffset + backingFileSize > clusterBytes) {
    throw new Qcow2fsError(
      'DAMAGED',
      `${storage.name}: header field backing_file_offset is ${backingFileOffset} and backing_file_size ` +
        `${backingFileSize}, but the name must be at most ${MAX_BACKING_NAME_BYTES} bytes and inside the first cluster`,
      { data: { file: storage.name, backingFileOffset, backingFileSize } },
    );
  }
  // qcow2_do_open: an image with an empty name has no backing file.
  if (backingFileSize === 0) return undefined;
  const name = Buffer.alloc(backingFileSize);
  readExactly(storage, name, 0, backingFileSize, backingFileOffset, 'the backing file name');
  return name.toString('latin1');
}
