/**
 * Every kind of damage, one row each: how an image that QEMU wrote is damaged, what QEMU then gives, and what this reader
 * gives. The table in native-notes/qcow2-format.md is the same for people.
 */

import { allStates, type DamageRow, FAR, HARMLESS, REFUSED, RIGHT } from './damage-row.ts';
import {
  CLUSTER_BYTES,
  COMPRESSED_OFFSET,
  DATA_OFFSET,
  DISK_BYTES,
  l1Entry,
  l2Entry,
  snapshotEntry,
  TABLE_COVERAGE_BYTES,
} from './damage-sample.ts';
import { COMPRESSED, COPIED, type DamagedImage, offsetOf } from './damaged-image.ts';

const SECOND_TABLE = `${TABLE_COVERAGE_BYTES}+${TABLE_COVERAGE_BYTES}`;
const ALL = `0+${DISK_BYTES}`;
/** Behind the header of 112 bytes; QEMU writes none to an image with clusters of this size. */
const FIRST_EXTENSION = 112;
const header: readonly DamageRow[] = [
  ...[60, 90].map(
    (sizeBytes): DamageRow => ({
      title: `a header of ${sizeBytes} bytes`,
      apply: (image) => image.truncate(sizeBytes),
      qemu: allStates('qcow2 header too short'),
      refused: 'PAST_END',
      ...REFUSED,
    }),
  ),
  {
    title: 'the corrupt bit',
    apply: (image) => image.writeU64(72, 2n),
    ...HARMLESS,
  },
  {
    title: 'the dirty bit',
    apply: (image) => image.writeU64(72, 1n),
    ...HARMLESS,
  },
  {
    title: 'an unknown incompatible feature',
    apply: (image) => image.writeU64(72, 1n << 60n),
    qemu: allStates('Unsupported qcow2 feature(s): Unknown incompatible feature: 1000000000000000'),
    refused: 'UNSUPPORTED',
    ...REFUSED,
  },
  {
    title: 'unknown compatible and autoclear features',
    apply: (image) => {
      image.writeU64(80, 1n << 60n);
      image.writeU64(88, 1n << 60n);
    },
    ...HARMLESS,
  },
  ...[
    { title: 'a header extension that is larger than its area', type: 0x12345678, lengthBytes: 0x10000 },
    { title: 'an end of the header extensions that is larger than their area', type: 0, lengthBytes: 0xffffffff },
  ].map(
    ({ title, type, lengthBytes }): DamageRow => ({
      title,
      apply: (image) => {
        image.writeU32(FIRST_EXTENSION, type);
        image.writeU32(FIRST_EXTENSION + 4, lengthBytes);
      },
      qemu: allStates('Header extension too large'),
      here: RIGHT,
      problems: [`header extension at offset ${FIRST_EXTENSION} has ${lengthBytes} bytes, but the area`],
      check: [1, 2],
    }),
  ),
  {
    title: 'a format of the backing file that is too long',
    apply: (image) => image.writeU64(FIRST_EXTENSION, 0xe2792aca_00000010n),
    qemu: allStates('ext_backing_format: len=16 too large'),
    here: RIGHT,
    problems: [`header extension at offset ${FIRST_EXTENSION}, the format of the backing file, has 16 bytes, over 15`],
    check: [1, 2],
  },
  {
    title: 'an unknown encryption method',
    apply: (image) => image.writeU32(32, 9),
    qemu: allStates('Unsupported encryption method 9'),
    refused: 'UNSUPPORTED',
    ...REFUSED,
  },
  {
    title: 'a size of 2^60',
    apply: (image) => image.writeU64(24, 1n << 60n),
    qemu: allStates('Image is too big'),
    refused: 'DAMAGED',
    ...REFUSED,
  },
  {
    title: 'a size that is no multiple of a sector',
    apply: (image) => image.writeU64(24, BigInt(DISK_BYTES - 100)),
    ...HARMLESS,
  },
];

const l1: readonly DamageRow[] = [
  {
    title: 'the L1 table past the end of the file',
    apply: (image) => image.writeU64(40, FAR),
    qemu: { current: 'invented', mon: 'right', tue: 'right' },
    here: { current: `PAST_END ${ALL}`, mon: 'right', tue: 'right' },
    problems: [`L1 table at offset ${FAR} (32 bytes) lies past the end of the file`],
    whenRead: `an L1 table entry at offset ${FAR}`,
    check: [2, 2],
  },
  {
    title: 'the L1 table not aligned',
    apply: (image) => image.writeU64(40, image.u64(40) + 512n),
    qemu: allStates('L1 table offset invalid'),
    here: { current: `DAMAGED ${ALL}`, mon: 'right', tue: 'right' },
    problems: ['its L1 table offset'],
    whenRead: 'the current state cannot be read: its L1 table offset',
    check: [1, 2],
  },
  {
    title: 'an L1 table that is shorter than the disk needs',
    apply: (image) => image.writeU32(36, 3),
    qemu: allStates('L1 table is too small'),
    here: { current: `DAMAGED ${ALL}`, mon: 'right', tue: 'right' },
    problems: ['header field l1_size is 3, but the virtual size needs 4'],
    whenRead: 'header field l1_size is 3',
    check: [1, 2],
  },
  {
    title: 'an L2 table past the end of the file',
    apply: (image) => image.writeU64(l1Entry(image, 1), COPIED | FAR),
    qemu: { current: 'invented', mon: 'right', tue: 'right' },
    here: { current: `PAST_END ${SECOND_TABLE}`, mon: 'right', tue: 'right' },
    problems: [`L2 table at offset ${FAR} (L1 entry 1) lies past the end of the file`],
    whenRead: `an L2 table entry at offset ${FAR}`,
    check: [2, 2],
  },
  {
    title: 'an L2 table that is not aligned',
    apply: (image) => image.writeU64(l1Entry(image, 1), image.u64(l1Entry(image, 1)) + 512n),
    qemu: { current: 'Input/output error', mon: 'right', tue: 'right' },
    here: { current: `DAMAGED ${SECOND_TABLE}`, mon: 'right', tue: 'right' },
    problems: ['(L1 entry 1) is not cluster aligned'],
    whenRead: `at guest offset ${TABLE_COVERAGE_BYTES}: L2 table offset`,
    check: [2, 2],
  },
  {
    title: 'reserved bits in an L1 entry',
    apply: (image) => image.writeU64(l1Entry(image, 1), image.u64(l1Entry(image, 1)) | 0x7f00_0000_0000_01ffn),
    ...HARMLESS,
    check: [2, 2],
  },
];

const cuts: readonly DamageRow[] = [
  {
    title: 'a file that was cut behind its last snapshot',
    apply: (image) => image.truncate(offsetOf(image.u64(l2Entry(image, DATA_OFFSET)))),
    qemu: { current: 'invented', mon: 'right', tue: 'right' },
    here: {
      current: `PAST_END ${DATA_OFFSET}+65536, PAST_END ${TABLE_COVERAGE_BYTES}+${2 * TABLE_COVERAGE_BYTES}`,
      mon: 'right',
      tue: 'right',
    },
    problems: ['(L1 entry 1) lies past', '(L1 entry 2) lies past'],
    whenRead: 'an L2 table entry at offset',
    check: [2, 2],
  },
];

const CLUSTER = `${DATA_OFFSET}+${CLUSTER_BYTES}`;
const COMPRESSED_CLUSTER = `${COMPRESSED_OFFSET}+${CLUSTER_BYTES}`;

const clusters: readonly DamageRow[] = [
  {
    title: 'reserved bits in an L2 entry',
    apply: (image) => {
      const at = l2Entry(image, DATA_OFFSET);
      image.writeU64(at, image.u64(at) | 0x3f00_0000_0000_01fen);
    },
    ...HARMLESS,
    check: [2, 2],
  },
  {
    title: 'a cluster past the end of the file',
    apply: (image) => image.writeU64(l2Entry(image, DATA_OFFSET), COPIED | FAR),
    qemu: { current: 'invented', mon: 'right', tue: 'right' },
    here: { current: `PAST_END ${CLUSTER}`, mon: 'right', tue: 'right' },
    problems: [],
    whenRead: `a cluster at offset ${FAR}`,
    check: [2, 2],
  },
  {
    title: 'a cluster that is not aligned',
    apply: (image) => {
      const at = l2Entry(image, DATA_OFFSET);
      image.writeU64(at, image.u64(at) + 512n);
    },
    qemu: { current: 'Input/output error', mon: 'right', tue: 'right' },
    here: { current: `DAMAGED ${CLUSTER}`, mon: 'right', tue: 'right' },
    problems: [],
    whenRead: `at guest offset ${DATA_OFFSET}: cluster offset`,
    check: [2, 2],
  },
  {
    title: 'compressed data that is none',
    apply: (image) => image.write(compressedDataOffset(image), Buffer.alloc(40, 7)),
    qemu: { current: 'Input/output error', mon: 'right', tue: 'right' },
    here: { current: `DAMAGED ${COMPRESSED_CLUSTER}`, mon: 'right', tue: 'right' },
    problems: [],
    whenRead: 'the compressed cluster at offset',
    check: [0, 0],
  },
  {
    title: 'compressed data past the end of the file',
    apply: (image) => image.writeU64(l2Entry(image, COMPRESSED_OFFSET), COMPRESSED | FAR),
    qemu: { current: 'Input/output error', mon: 'right', tue: 'right' },
    here: { current: `PAST_END ${COMPRESSED_CLUSTER}`, mon: 'right', tue: 'right' },
    problems: [],
    whenRead: `a compressed cluster at offset ${FAR}`,
    check: [2, 2],
  },
];

function compressedDataOffset(image: DamagedImage): number {
  // The low 62 - (cluster_bits - 8) bits (docs/interop/qcow2.txt).
  return Number(image.u64(l2Entry(image, COMPRESSED_OFFSET)) & ((1n << 58n) - 1n));
}

const refcounts: readonly DamageRow[] = [
  {
    title: 'a refcount table of garbage',
    apply: (image) => image.write(Number(image.u64(48)), Buffer.alloc(512, 0x5a)),
    ...HARMLESS,
    check: [1, 1],
  },
  {
    title: 'the refcount table past the end of the file',
    apply: (image) => image.writeU64(48, FAR),
    ...HARMLESS,
    check: [2, 2],
  },
];

const ABSENT = { current: 'right', mon: 'absent', tue: 'absent' };
const NOT_FOUND = "Can't find snapshot";

const snapshots: readonly DamageRow[] = [
  {
    title: 'the snapshot table past the end of the file',
    apply: (image) => image.writeU64(64, FAR),
    qemu: { current: 'right', mon: NOT_FOUND, tue: NOT_FOUND },
    here: ABSENT,
    problems: [`snapshot table entry 0 at offset ${FAR}`],
    check: [2, 2],
  },
  {
    title: 'a snapshot table that the end of the file cuts',
    apply: (image) => {
      const table = image.read(Number(image.u64(64)), snapshotEntry(image, 1) - snapshotEntry(image, 0) + 20);
      const end = image.clusterCount * CLUSTER_BYTES;
      image.write(end, table);
      image.writeU64(64, BigInt(end));
    },
    qemu: { current: 'right', mon: 'right', tue: NOT_FOUND },
    here: { current: 'right', mon: 'right', tue: 'absent' },
    problems: ['snapshot table entry 1 at offset'],
    check: [2, 2],
  },
  {
    title: 'the snapshot table not aligned',
    apply: (image) => image.writeU64(64, image.u64(64) + 512n),
    qemu: allStates('Snapshot table offset invalid'),
    here: ABSENT,
    problems: ['header field snapshots_offset is'],
    check: [1, 1],
  },
  {
    title: '65537 snapshots',
    apply: (image) => image.writeU32(60, 65537),
    qemu: allStates('Snapshot table too large'),
    here: RIGHT,
    problems: ['header field nb_snapshots is 65537', 'snapshot table entry 2 at offset'],
    check: [1, 1],
  },
  {
    title: 'one snapshot too many',
    apply: (image) => image.writeU32(60, 3),
    qemu: RIGHT,
    here: RIGHT,
    problems: ['snapshot table entry 2 at offset'],
    check: [2, 2],
  },
  {
    title: 'a snapshot with 2048 bytes of extra data',
    apply: (image) => image.writeU32(snapshotEntry(image, 1) + 36, 2048),
    qemu: allStates('Too much extra metadata in snapshot table entry 1'),
    here: { current: 'right', mon: 'right', tue: 'absent' },
    problems: ['snapshot table entry 1 at offset'],
    check: [1, 1],
  },
  {
    title: 'a snapshot with an L1 table that is too large',
    apply: (image) => image.writeU32(snapshotEntry(image, 0) + 8, 0x40_0001),
    qemu: { current: 'right', mon: 'Snapshot L1 table too large', tue: 'right' },
    here: { current: 'right', mon: 'absent', tue: 'right' },
    problems: ['snapshot table entry 0 at offset'],
    check: [2, 2],
  },
  {
    title: 'a snapshot with an L1 table that is not aligned',
    apply: (image) => image.writeU64(snapshotEntry(image, 0), image.u64(snapshotEntry(image, 0)) + 8n),
    qemu: { current: 'right', mon: 'Snapshot L1 table offset invalid', tue: 'right' },
    here: { current: 'right', mon: 'absent', tue: 'right' },
    problems: ['snapshot table entry 0 at offset'],
    check: [2, 2],
  },
  {
    title: 'a snapshot with an L1 table past the end of the file',
    apply: (image) => image.writeU64(snapshotEntry(image, 0), FAR),
    qemu: { current: 'right', mon: 'invented', tue: 'right' },
    here: { current: 'right', mon: `PAST_END ${ALL}`, tue: 'right' },
    problems: [`L1 table at offset ${FAR} (32 bytes) lies past the end of the file`],
    whenRead: `an L1 table entry at offset ${FAR}`,
    check: [2, 2],
  },
  {
    title: 'a snapshot with an L1 table that is shorter than its disk',
    apply: (image) => image.writeU32(snapshotEntry(image, 1) + 8, 3),
    qemu: { current: 'right', mon: 'right', tue: 'invented' },
    here: { current: 'right', mon: 'right', tue: 'invented' },
    problems: [],
    check: [3, 3],
  },
  {
    title: 'a snapshot with an L2 table past the end of the file',
    apply: (image) => image.writeU64(Number(image.u64(snapshotEntry(image, 0))), FAR),
    qemu: { current: 'right', mon: 'invented', tue: 'right' },
    here: { current: 'right', mon: `PAST_END 0+${TABLE_COVERAGE_BYTES}`, tue: 'right' },
    problems: [`L2 table at offset ${FAR} (L1 entry 0) lies past the end of the file`],
    whenRead: `an L2 table entry at offset ${FAR}`,
    check: [2, 2],
  },
];

export const DAMAGE_TABLE: readonly DamageRow[] = [...header, ...l1, ...cuts, ...clusters, ...refcounts, ...snapshots];
