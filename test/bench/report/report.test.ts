/** What is made of results. */

import { describe, expect, test } from 'vitest';

/** The bench runs as it is, and has no types. */
const load = (name: string) => import(new URL(name, import.meta.url).href);
const [qcow2fs, qemuStorageDaemon, qemuNbd] = (await load('../peers/peers.mjs')).PEERS;
const { drawChart } = await load('chart.mjs');
const { judge } = await load('judge.mjs');
const { median } = await load('median.mjs');
const { formatNote } = await load('note.mjs');
const { formatTable } = await load('table.mjs');

const FAST = { group: 'plain', title: 'reading', unit: 'MB/s', better: 'higher', target: { atLeast: 2 } };
const SHORT = { group: 'plain', title: 'copying', unit: 's', better: 'lower', target: { atLeast: 2 } };
const SMALL = { group: 'many', title: 'memory', unit: 'MiB', better: 'lower', isMemory: true };

function rowOf(row: object, ours: number, qemu: number | string, nbd = 1) {
  const result = typeof qemu === 'string' ? { missing: qemu } : { median: qemu };
  const results = new Map<unknown, object>([
    [qcow2fs, { median: ours }],
    [qemuStorageDaemon, result],
    [qemuNbd, { median: nbd }],
  ]);
  return { ...FAST, ...row, results };
}

test('the median of an even number of values is in the middle of two', () => {
  expect([median([3, 1, 2]), median([4, 1, 3, 2])]).toEqual([2, 2.5]);
});

describe('a ratio', () => {
  test('of speed is how many times as fast', () => {
    expect(judge(rowOf(FAST, 30, 10))).toMatchObject({ ratio: 3, isMet: true });
    expect(judge(rowOf(SHORT, 30, 10))).toMatchObject({ ratio: 1 / 3, isMet: false });
  });

  test('of memory is how many times as much', () => {
    const target = { than: qemuNbd.name, atMost: 0.5 };
    expect(judge(rowOf({ ...SMALL, target }, 40, 1, 100))).toMatchObject({ than: qemuNbd, ratio: 0.4, isMet: true });
  });

  test('is to qemu-nbd where qemu-storage-daemon cannot do it', () => {
    expect(judge(rowOf(FAST, 30, 'it cannot', 15))).toMatchObject({ than: qemuNbd, ratio: 2, isMet: true });
  });

  test('is without a verdict if nothing is asked for', () => {
    expect(judge(rowOf({ ...SMALL, target: undefined }, 40, 10))).toMatchObject({ ratio: 4, isMet: undefined });
  });
});

test('a limit needs no other peer', () => {
  const row = { unit: 'ms', better: 'lower', target: { limit: 200 } };
  expect(judge(rowOf(row, 200, 'it cannot')).isMet).toBe(true);
  expect(judge(rowOf(row, 201, 'it cannot')).isMet).toBe(false);
});

test('the table says what took too long and why something is missing', () => {
  const rows = [rowOf(SHORT, 1, Number.POSITIVE_INFINITY, 8), rowOf({ ...FAST, group: 'b' }, 30, 'it cannot', 10)];
  const table: string = formatTable(rows, { limitSeconds: 20 });
  expect(table).toContain(' > 20 |');
  expect(table).toContain('many x');
  expect(table).toMatch(/^- \(2\) qemu-storage-daemon: it cannot$/m);
  expect(table).toMatch(/^- \(1\) the ratio is to qemu-nbd/m);
  const widths = table
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.length);
  expect(new Set(widths).size).toBe(1);
});

test('the chart has a bar for what has a target in speed', () => {
  const chart = drawChart([rowOf(FAST, 30, 10), rowOf({ ...SMALL, target: { atMost: 0.5 } }, 1, 2)]);
  expect(chart).toContain('plain: reading');
  expect(chart).toContain('>3.0x<');
  expect(chart).not.toContain('memory');
});

test('the note keeps what people have written', () => {
  const sizes = { rounds: 5, plainBytes: 1, layoutBytes: 1, sparseBytes: 1 };
  const note = formatNote('old\n## What was tried\n\n- this\n', {
    date: 'today',
    machine: ['a'],
    sizes,
    table: 'TABLE',
  });
  expect(note).toContain('TABLE');
  expect(note).not.toContain('old');
  expect(note.endsWith('- a\n\n## What was tried\n\n- this\n')).toBe(true);
});
