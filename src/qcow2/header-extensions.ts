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
  const window = new Window(storage, end);
  const byType = new Map<number, HeaderExtension>();
  const problems = new ProblemList();
  let offset = header.headerLength;
  while (offset < end) {
    if (offset + EXTENSION_HEAD_BYTES > end) {
      problems.add(tooLarge(offset, `a header extension at offset ${offset} has no room`, end));
      break;
    }
    const at = window.find(offset, EXTENSION_HEAD_BYTES);
    const type = window.fields.getUint32(at);
    const lengthBytes = window.fields.getUint32(at + 4);
    // Before the type is looked at, as in QEMU: nor does an end with a length stand for one.
    if (lengthBytes > end - offset - EXTENSION_HEAD_BYTES) {
      problems.add(tooLarge(offset, `the header extension at offset ${offset} has ${lengthBytes} bytes`, end));
      break;
    }
    if (type === QCOW2_EXT_MAGIC_END) break;
    if (isKnown(type)) {
      const data = window.copy(offset + EXTENSION_HEAD_BYTES, Math.min(lengthBytes, MAX_EXTENSION_DATA_BYTES));
      const extension = { offset, lengthBytes, data };
      problems.add(formatProblem(type, extension));
      problems.add(repetitionProblem(type, extension, byType.get(type)));
      byType.set(type, extension);
    }
    offset += extensionBytes(lengthBytes);
  }
  problems.add(dataFileProblem(byType.get(QCOW2_EXT_MAGIC_DATA_FILE)));
  return { byType, problems: problems.all };
}

/** Other types have no meaning here. Not by a list: this is asked millions of times. */
function isKnown(type: number): boolean {
  return (
    type === QCOW2_EXT_MAGIC_BACKING_FORMAT ||
    type === QCOW2_EXT_MAGIC_FEATURE_TABLE ||
    type === QCOW2_EXT_MAGIC_CRYPTO_HEADER ||
    type === QCOW2_EXT_MAGIC_DATA_FILE ||
    type === QCOW2_EXT_MAGIC_BITMAPS
  );
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

/** Of any of them: QEMU opens none of such images. */
function formatProblem(type: number, { lengthBytes, offset }: HeaderExtension): HeaderProblem | undefined {
  if (type !== QCOW2_EXT_MAGIC_BACKING_FORMAT || lengthBytes <= MAX_BACKING_FORMAT_BYTES) return undefined;
  const message =
    `the header extension at offset ${offset}, the format of the backing file, has ${lengthBytes} bytes, ` +
    `over ${MAX_BACKING_FORMAT_BYTES}`;
  return { field: 'backing_format', offset, message };
}

/** Of the one that counts. */
function dataFileProblem(extension: HeaderExtension | undefined): HeaderProblem | undefined {
  if (extension === undefined || textOf(extension).length <= MAX_PATH_BYTES) return undefined;
  const { offset } = extension;
  const message = `the header extension at offset ${offset}, the name of the external data file, has over ${MAX_PATH_BYTES} bytes`;
  return { field: 'data_file', offset, message };
}

/** QEMU unlocks the volume of each of them, and fails if one of them is none. */
function repetitionProblem(type: number, now: HeaderExtension, before?: HeaderExtension): HeaderProblem | undefined {
  if (type !== QCOW2_EXT_MAGIC_CRYPTO_HEADER || before === undefined || before.data.equals(now.data)) return undefined;
  const message =
    `the header extensions at offsets ${before.offset} and ${now.offset} name two different headers of LUKS encryption: ` +
    'the second one is taken';
  return { field: 'crypt_method', offset: now.offset, message };
}

/** The first problem of each field: there may be hundreds of thousands. */
class ProblemList {
  readonly all: HeaderProblem[] = [];

  add(problem: HeaderProblem | undefined): void {
    if (problem === undefined || this.all.some(({ field }) => field === problem.field)) return;
    this.all.push(problem);
  }
}

/**
 * A piece of the area, up to `end`. There may be hundreds of thousands of empty extensions, in each of 64 layers: they are
 * looked at in place. A small image may end inside its first cluster: what is missing of that reads as zeros, which are the
 * end mark.
 */
class Window {
  readonly #bytes = Buffer.alloc(WINDOW_BYTES);
  /** Twice as fast as the methods of Buffer. */
  readonly fields = new DataView(this.#bytes.buffer, this.#bytes.byteOffset);
  readonly #storage: Storage;
  readonly #end: number;
  #start = 0;
  #stop = 0;

  constructor(storage: Storage, end: number) {
    this.#storage = storage;
    this.#end = end;
  }

  /** Where in `fields` the `length` bytes at `offset` are: at most `WINDOW_BYTES`, and before the end. */
  find(offset: number, length: number): number {
    if (offset < this.#start || offset + length > this.#stop) {
      this.#start = offset;
      this.#stop = Math.min(this.#end, offset + WINDOW_BYTES);
      const count = this.#storage.readUpTo(this.#bytes, 0, this.#stop - offset, offset);
      this.#bytes.fill(0, count);
    }
    return offset - this.#start;
  }

  copy(offset: number, length: number): Buffer {
    const at = this.find(offset, length);
    return Buffer.from(this.#bytes.subarray(at, at + length));
  }
}
