/**
 * Whether the log of an XFS ends with an unmount record, so that a mount has nothing to recover. This follows
 * xlog_find_head() and xlog_find_tail() of fs/xfs/xfs_log_recover.c.
 *
 * The log is a ring of blocks of 512 bytes. The first word of each is the number of the cycle that wrote it, or the magic of a
 * record header with the cycle in the second word. The head is where the newest cycle ends and the one before it begins.
 *
 * Record header, big-endian (fs/xfs/libxfs/xfs_log_format.h, struct xlog_rec_header):
 * | offset | size | field                                                                          |
 * |--------|------|--------------------------------------------------------------------------------|
 * |      0 |    4 | h_magicno                                                                      |
 * |      4 |    4 | h_cycle                                                                        |
 * |      8 |    4 | h_version: 1, or 2 with headers of more than one block                         |
 * |     12 |    4 | h_len, of the data behind the header                                           |
 * |     40 |    4 | h_num_logops                                                                   |
 * |    320 |    4 | h_size, of the buffer that it was written from, version 2                      |
 * Operation header: oh_flags (1) at 9.
 */

import type { ProbeSource } from './probe-source.ts';

const BLOCK_BYTES = 512;
const XLOG_HEADER_MAGIC_NUM = 0xfeedbabe;
const XLOG_VERSION_2 = 2;
/** Data for which one block of header has the cycle words. */
const XLOG_HEADER_CYCLE_BYTES = 32 * 1024;
const XLOG_MAX_RECORD_BYTES = 256 * 1024;
const XLOG_MAX_ICLOGS = 8;
const XLOG_UNMOUNT_TRANS = 0x20;

/** The longest record with its header, and all that can be in flight at a time. */
const RECORD_BLOCKS = (XLOG_MAX_RECORD_BYTES + XLOG_MAX_RECORD_BYTES / 64) / BLOCK_BYTES;
const IN_FLIGHT_BLOCKS = (XLOG_MAX_ICLOGS * XLOG_MAX_RECORD_BYTES) / BLOCK_BYTES;

/** Thrown and caught within this file: a block of the log cannot be read. */
class Unreadable extends Error {}

/** Undefined if the log cannot be read, or is nothing that the kernel writes. */
export function isXfsLogClean(source: ProbeSource, offset: number, lengthBytes: number): boolean | undefined {
  const log = new XfsLog(source, offset, Math.floor(lengthBytes / BLOCK_BYTES));
  try {
    return endsWithUnmount(log, findHead(log));
  } catch (error) {
    if (error instanceof Unreadable) return undefined;
    throw error;
  }
}

class XfsLog {
  readonly blockCount: number;
  readonly #source: ProbeSource;
  readonly #offset: number;

  constructor(source: ProbeSource, offset: number, blockCount: number) {
    this.#source = source;
    this.#offset = offset;
    this.blockCount = blockCount;
  }

  read(block: number, count: number): Buffer {
    const bytes = this.#source.read(this.#offset + block * BLOCK_BYTES, count * BLOCK_BYTES);
    if (bytes === undefined) throw new Unreadable();
    return bytes;
  }

  /** `count` blocks that end before `end`, from the end of the ring where the beginning does not have them. */
  readBefore(end: number, count: number): Buffer {
    if (count <= end) return this.read(end - count, count);
    const wrapped = count - end;
    return Buffer.concat([this.read(this.blockCount - wrapped, wrapped), this.read(0, end)]);
  }

  cycle(block: number): number {
    return cycleOf(this.read(block, 1), 0);
  }
}

/** xlog_get_cycle() */
function cycleOf(bytes: Buffer, offset: number): number {
  const word = bytes.readUInt32BE(offset);
  return word === XLOG_HEADER_MAGIC_NUM ? bytes.readUInt32BE(offset + 4) : word;
}

/** The block behind the newest one; 0 also for a log of zeros. */
function findHead(log: XfsLog): number {
  const first = log.cycle(0);
  if (first === 0) return 0;
  const last = log.cycle(log.blockCount - 1);
  // The last block is of the same cycle if the head is at the end, and of an older one, or never written, otherwise.
  const isWhole = first === last;
  const older = isWhole ? last - 1 : last;
  const head = isWhole ? log.blockCount : findCycleStart(log, last);
  return firstHole(log, head, older) % log.blockCount;
}

/** xlog_find_cycle_start(): the first block of `cycle`, the last block being one of it and the first one not. */
function findCycleStart(log: XfsLog, cycle: number): number {
  let low = 0;
  let high = log.blockCount - 1;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (log.cycle(middle) === cycle) high = middle;
    else low = middle;
  }
  return high;
}

/** Buffers are written in any order: the head is at the first block before it that has not got its new cycle yet. */
function firstHole(log: XfsLog, head: number, older: number): number {
  const count = Math.min(log.blockCount, IN_FLIGHT_BLOCKS);
  const bytes = log.readBefore(head, count);
  for (let index = 0; index < count; index++) {
    const block = head - count + index;
    // Blocks from the end of the ring are one cycle behind; with zeros there, the log was never round.
    const stale = block < 0 ? older - 1 : older;
    if (stale >= 0 && cycleOf(bytes, index * BLOCK_BYTES) === stale) {
      return block < 0 ? block + log.blockCount : block;
    }
  }
  return head;
}

/** xlog_check_unmount_rec(), on the last record that is complete. */
function endsWithUnmount(log: XfsLog, head: number): boolean | undefined {
  // mkfs writes an unmount record: a log of zeros was made by somebody else (xlog_find_head() warns as well).
  if (log.cycle(0) === 0) return undefined;
  const count = Math.min(log.blockCount - 1, RECORD_BLOCKS);
  const bytes = log.readBefore(head, count);
  let end = count;
  for (let index = count - 1; index >= 0; index--) {
    const record = bytes.subarray(index * BLOCK_BYTES, end * BLOCK_BYTES);
    if (record.readUInt32BE(0) !== XLOG_HEADER_MAGIC_NUM) continue;
    const headerBlocks = headerBlocksOf(record);
    const blocks = headerBlocks + Math.ceil(record.readUInt32BE(12) / BLOCK_BYTES);
    if (blocks === end - index) return isUnmountRecord(record, headerBlocks);
    // It was being written: recovery begins before it, and that is needed unless the one before is an unmount record.
    if (end !== count) return undefined;
    end = index;
  }
  return undefined;
}

function isUnmountRecord(record: Buffer, headerBlocks: number): boolean {
  const operation = headerBlocks * BLOCK_BYTES;
  return (
    record.readUInt32BE(40) === 1 &&
    record.length >= operation + BLOCK_BYTES &&
    (record.readUInt8(operation + 9) & XLOG_UNMOUNT_TRANS) !== 0
  );
}

/** xlog_logrec_hblks() */
function headerBlocksOf(header: Buffer): number {
  if (!(header.readUInt32BE(8) & XLOG_VERSION_2)) return 1;
  return Math.max(1, Math.ceil(header.readUInt32BE(320) / XLOG_HEADER_CYCLE_BYTES));
}
