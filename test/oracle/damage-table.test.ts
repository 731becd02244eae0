/** What is left of a damaged image: here, and in QEMU. */

import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Qcow2fsError } from '../../src/errors.ts';
import { closeLayers } from '../../src/open-image/layers.ts';
import { closeImage, openImage, openImageHeader, snapshotsOf } from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { catchError } from '../support/catch-error.ts';
import type { DamageRow } from './damage-row.ts';
import {
  COMPRESSED_OFFSET,
  l2Entry,
  makeDamagedCopy,
  makeDamageSample,
  readStateWithQemu,
  readTruth,
  STATE_NAMES,
  type StateName,
} from './damage-sample.ts';
import { DAMAGE_TABLE } from './damage-table.ts';
import { DamagedImage } from './damaged-image.ts';
import { describeReading } from './describe-reading.ts';
import { checkHere, expectSameCheck } from './expect-same-check.ts';
import { checkWithQemu, listSnapshots } from './qemu.ts';

const folder = tmp.dirSync({ prefix: 'qcow2fs-damage-', unsafeCleanup: true });
const raw = `${folder.name}/qemu.raw`;
let healthy: string;
let truth: ReadonlyMap<StateName, Buffer>;

beforeAll(() => {
  healthy = makeDamageSample(folder.name);
  truth = readTruth(healthy, raw);
});
afterAll(() => folder.removeCallback());

/** QEMU gives every state the present size; the rest is compared. */
function outcomeOfQemu(bytes: Buffer | string, state: StateName): string {
  if (typeof bytes === 'string') return bytes;
  return truth.get(state)?.subarray(0, bytes.length).equals(bytes) ? 'right' : 'invented';
}

function damage({ apply }: DamageRow): string {
  const path = `${folder.name}/damaged.qcow2`;
  makeDamagedCopy(healthy, path, apply);
  return path;
}

/** What this reader gives for a state. */
function readHere(path: string, state: StateName, expected: Buffer): string {
  const image = openImage(path);
  try {
    const index = state === 'current' ? 0 : 1 + [...snapshotsOf(image)].findIndex(({ entry }) => entry.name === state);
    if (state !== 'current' && index === 0) return 'absent';
    const disks = new StateDisks(image);
    const read = (offset: number, length: number): Buffer => {
      const target = Buffer.alloc(length, 0xee);
      disks.disk(index).readAt(target, 0, offset, length);
      return target;
    };
    return describeReading(expected, read, (error) => (error as Qcow2fsError).code);
  } finally {
    closeImage(image);
  }
}

describe.each(DAMAGE_TABLE)('$title', (row) => {
  test('is in QEMU what the table says', () => {
    const path = damage(row);
    for (const state of STATE_NAMES) {
      const outcome = outcomeOfQemu(readStateWithQemu(path, state, raw), state);
      const expected = row.qemu[state];
      if (expected === 'right' || expected === 'invented') expect(outcome, state).toBe(expected);
      else expect(outcome, state).toContain(expected);
    }
  });

  test('costs here what it must, and nothing else', () => {
    const path = damage(row);
    if (row.refused !== undefined) {
      expect(catchError(() => openImage(path)).code).toBe(row.refused);
      return;
    }
    for (const state of STATE_NAMES) {
      const healthyBytes = truth.get(state) ?? Buffer.alloc(0);
      expect(readHere(path, state, healthyBytes), state).toBe(row.here[state]);
      if (row.here[state] === 'invented') {
        expect(readHere(path, state, readStateWithQemu(path, state, raw) as Buffer), `${state}, as QEMU`).toBe('right');
      }
    }
  });

  test('is told on opening, with the snapshots that are left and no others', () => {
    const path = damage(row);
    if (row.refused !== undefined && row.refused !== 'UNSUPPORTED') {
      expect(catchError(() => openImageHeader(path)).message).toContain(path);
      return;
    }
    const header = openImageHeader(path);
    closeLayers(header.layers);
    const shown = ['current', ...Array.from(snapshotsOf(header), ({ entry }) => entry.name)];
    if (row.refused === undefined) expect(shown).toEqual(STATE_NAMES.filter((state) => row.here[state] !== 'absent'));
    expect(header.problems).toEqual(row.problems.map((problem) => expect.stringContaining(problem)));
  });

  test('is checked as QEMU checks it, where both do', () => {
    const path = damage(row);
    expectSameCheck(path, row.title);
    expect([checkWithQemu(path).status, checkHere(path).status]).toEqual(row.check);
  });
});

test('the sample ends inside the last sector of compressed data, and every state is right', () => {
  const image = new DamagedImage(healthy);
  const entry = image.u64(l2Entry(image, COMPRESSED_OFFSET));
  image.close();
  // docs/interop/qcow2.txt: with clusters of 4 KiB, 58 bits of offset, then the number of further sectors.
  const offset = Number(entry & ((1n << 58n) - 1n));
  const sectorCount = Number((entry >> 58n) & 15n) + 1;
  expect(image.sizeBytes).toBeGreaterThan(offset);
  expect(image.sizeBytes).toBeLessThan(Math.floor(offset / 512) * 512 + sectorCount * 512);
  for (const state of STATE_NAMES) expect(readHere(healthy, state, truth.get(state) ?? Buffer.alloc(0))).toBe('right');
  expect(expectSameCheck(healthy, 'healthy')).toBe(0);
});

test.each(['one snapshot too many', 'a snapshot table that the end of the file cuts'])(
  '%s: QEMU lists a ghost',
  (title) => {
    const row = DAMAGE_TABLE.find((each) => each.title === title);
    const listed = listSnapshots(damage(row as DamageRow)).map(({ id, name }) => `${id} ${name}`);
    expect(listed.slice(0, 1)).toEqual(['1 mon']);
    expect(listed.filter((snapshot) => !['1 mon', '2 tue'].includes(snapshot))).toHaveLength(1);
  },
);
