/**
 * Reads the header extensions, with the rules of QEMU (block/qcow2.c: qcow2_read_extensions). However many there are and
 * however large they are, no more is kept than what this reader uses.
 */

import type { Storage } from '../storage/storage.ts';
import type { HeaderProblem } from './header-problem.ts';
import { MAX_BACKING_FORMAT_BYTES, MAX_PATH_BYTES } from './limits.ts';
import type { Header } from './wire/header.ts';
import {
  EXTENSION_HEAD_BYTES,
  extensionBytes,
  MAX_FEATURE_TABLE_BYTES,
  QCOW2_EXT_MAGIC_BACKING_FORMAT,
  QCOW2_EXT_MAGIC_BITMAPS,
  QCOW2_EXT_MAGIC_CRYPTO_HEADER,
  QCOW2_EXT_MAGIC_DATA_FILE,
  QCOW2_EXT_MAGIC_END,
  QCOW2_EXT_MAGIC_FEATURE_TABLE,
} from './wire/header-extensions.ts';

export interface HeaderExtension {
  /** Where in the file it begins. */
  readonly offset: number;
  readonly lengthBytes: number;
  /** The first `MAX_EXTENSION_DATA_BYTES` of it. */
  readonly data: Buffer;
}

export interface HeaderExtensions {
  /** Of several of one type, the last one: QEMU takes one after the other, in place of the one before. */
  readonly byType: ReadonlyMap<number, HeaderExtension>;
  readonly problems: readonly HeaderProblem[];
}

/** Other types have no meaning here. */
const KNOWN_TYPES: readonly number[] = [
  QCOW2_EXT_MAGIC_BACKING_FORMAT,
  QCOW2_EXT_MAGIC_FEATURE_TABLE,
  QCOW2_EXT_MAGIC_CRYPTO_HEADER,
  QCOW2_EXT_MAGIC_DATA_FILE,
  QCOW2_EXT_MAGIC_BITMAPS,
];

/** The others are shorter, or not used. */
export const MAX_EXTENSION_DATA_BYTES = Math.max(MAX_FEATURE_TABLE_BYTES, MAX_PATH_BYTES + 1);

/** An area may have 2 MiB; that of QEMU's images has a few hundred bytes. */
const WINDOW_BYTES = 16 * 1024;

/**
 * The extensions between the header and the name of the backing file, or else the end of the first cluster.
 * @throws Qcow2fsError IO.
 */
export function readExtensions(storage: Storage, header: Header, clusterBytes: number): HeaderExtensions {
  const end = header.backingFileOffset === 0 ? clusterBytes : header.backingFileOffset;
  const readAt = readInWindows(storage, end);
  const byType = new Map<number, HeaderExtension>();
  const problems: HeaderProblem[] = [];
  let offset = header.headerLength;
  while (offset < end) {
    const head = readAt(offset, EXTENSION_HEAD_BYTES);
    if (head.length < EXTENSION_HEAD_BYTES) {
      problems.push(tooLarge(offset, `a header extension at offset ${offset} has no room`, end));
      break;
    }
    const type = head.readUInt32BE(0);
    const lengthBytes = head.readUInt32BE(4);
    // Before the type is looked at, as in QEMU: nor does an end with a length stand for one.
    if (lengthBytes > end - offset - EXTENSION_HEAD_BYTES) {
      problems.push(tooLarge(offset, `the header extension at offset ${offset} has ${lengthBytes} bytes`, end));
      break;
    }
    if (type === QCOW2_EXT_MAGIC_END) break;
    if (KNOWN_TYPES.includes(type)) {
      const data = Buffer.from(readAt(offset + EXTENSION_HEAD_BYTES, Math.min(lengthBytes, MAX_EXTENSION_DATA_BYTES)));
      const extension = { offset, lengthBytes, data };
      const problem = lengthProblem(type, extension) ?? repetitionProblem(type, extension, byType.get(type));
      if (problem !== undefined) problems.push(problem);
      byType.set(type, extension);
    }
    offset += extensionBytes(lengthBytes);
  }
  return { byType, problems };
}

function tooLarge(offset: number, what: string, end: number): HeaderProblem {
  const message = `${what}, but the area of the extensions ends at offset ${end}: it and all behind it are lost`;
  return { field: 'header_extension', offset, message };
}

/** The text of an extension: for QEMU, a NUL ends it. */
export function textOf({ data }: HeaderExtension): Buffer {
  const end = data.indexOf(0);
  return end < 0 ? data : data.subarray(0, end);
}

function lengthProblem(type: number, extension: HeaderExtension): HeaderProblem | undefined {
  const { lengthBytes, offset } = extension;
  const where = `the header extension at offset ${offset}`;
  if (type === QCOW2_EXT_MAGIC_BACKING_FORMAT && lengthBytes > MAX_BACKING_FORMAT_BYTES) {
    const message = `${where}, the format of the backing file, has ${lengthBytes} bytes, over ${MAX_BACKING_FORMAT_BYTES}`;
    return { field: 'backing_format', offset, message };
  }
  if (type === QCOW2_EXT_MAGIC_DATA_FILE && textOf(extension).length > MAX_PATH_BYTES) {
    const message = `${where}, the name of the external data file, has over ${MAX_PATH_BYTES} bytes`;
    return { field: 'data_file', offset, message };
  }
  return undefined;
}

/** QEMU unlocks the volume of each of them, and fails if one of them is none. */
function repetitionProblem(type: number, now: HeaderExtension, before?: HeaderExtension): HeaderProblem | undefined {
  if (type !== QCOW2_EXT_MAGIC_CRYPTO_HEADER || before === undefined || before.data.equals(now.data)) return undefined;
  const message =
    `the header extensions at offsets ${before.offset} and ${now.offset} name two different headers of LUKS encryption: ` +
    'the second one is taken';
  return { field: 'crypt_method', offset: now.offset, message };
}

/**
 * Reads a piece of at most `WINDOW_BYTES`, of which what is behind `end` is missing. A small image may end inside its first
 * cluster: what is missing of that reads as zeros, which is the end mark. A piece is valid until the next one is read.
 */
function readInWindows(storage: Storage, end: number): (offset: number, length: number) => Buffer {
  const window = Buffer.alloc(WINDOW_BYTES);
  let start = 0;
  let stop = 0;
  return (offset, length) => {
    const pieceEnd = Math.min(end, offset + length);
    if (offset < start || pieceEnd > stop) {
      start = offset;
      stop = Math.min(end, offset + WINDOW_BYTES);
      const count = storage.readUpTo(window, 0, stop - start, start);
      window.fill(0, count);
    }
    return window.subarray(offset - start, pieceEnd - start);
  };
}
