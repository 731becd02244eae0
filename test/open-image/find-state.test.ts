import { describe, expect, test } from 'vitest';
import { findState, type NamedSnapshot, stateNamesOf } from '../../src/open-image/find-state.ts';
import { closeLayers } from '../../src/open-image/layers.ts';
import { openImageHeader, snapshotsOf } from '../../src/open-image/open-image.ts';
import { createImage, createSnapshot } from '../oracle/qemu.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const IMAGE = 'disk.qcow2';
/** 2026-11-16T02:00:00Z. */
const DATE_SECONDS = 1_794_794_400;

/** Snapshots with these ids and names. */
function snapshots(...pairs: readonly (readonly [id: string, name: string])[]): NamedSnapshot[] {
  return pairs.map(([id, name]) => ({
    entry: { id, name: Buffer.from(name).toString('latin1'), dateSeconds: DATE_SECONDS },
  }));
}

const find = (among: readonly NamedSnapshot[], text: string) => findState(IMAGE, among, text);

describe('findState', () => {
  // A snapshot that has the id of another one for its name: what QEMU's tools take now for this one, now for that one.
  const mixed = snapshots(
    ['1', '2'],
    ['2', 'monday'],
    ['3', 'id:1'],
    ['4', 'current'],
    ['5', 'Größe'],
    ['6', 'name:x'],
  );

  test.each([
    ['current', 0],
    ['2', 1],
    ['name:2', 1],
    ['id:2', 2],
    ['monday', 2],
    ['name:monday', 2],
    ['id:1', 1],
    ['name:id:1', 3],
    ['name:current', 4],
    ['Größe', 5],
    ['name:name:x', 6],
  ])('%s is state %i', (text, state) => {
    expect(find(mixed, text)).toBe(state);
  });

  test.each([
    ['tuesday', /^disk\.qcow2: no snapshot is called tuesday; `qcow2fs list` shows/],
    ['3', /^disk\.qcow2: no snapshot is called 3; the one with the id 3 is id:3$/],
    ['id:monday', /no snapshot is called id:monday/],
    ['name:1', /no snapshot is called name:1/],
    ['Mond', /no snapshot is called Mond/],
    ['gr\ufffd\ufffde', /a name that is not UTF-8 cannot be given: take its id$/],
  ])('%s is not there', (text, message) => {
    const error = catchError(() => find(mixed, text));
    expect(error).toMatchObject({ code: 'NOT_FOUND', message: expect.stringMatching(message) });
  });

  test('an ambiguous name is an error that lists the candidates', () => {
    const twice = snapshots(['1', 'daily'], ['2', 'other'], ['7', 'daily']);
    for (const text of ['daily', 'name:daily']) {
      expect(catchError(() => find(twice, text))).toMatchObject({
        code: 'USAGE',
        message: `${IMAGE}: 2 snapshots are called ${text}: id:1 (daily, 2026-11-16T02:00:00Z), id:7 (daily, 2026-11-16T02:00:00Z); take one by its id`,
      });
    }
    expect(find(twice, 'id:7')).toBe(3);
  });

  test('no name is wrong usage, since it may be a variable of the shell that is not set', () => {
    const nameless = snapshots(['1', '']);
    expect(catchError(() => find(nameless, ''))).toMatchObject({ code: 'USAGE' });
    expect(find(nameless, 'name:')).toBe(1);
  });
});

test('each snapshot is found by what stateNamesOf gives for it', () => {
  const notUtf8: NamedSnapshot = { entry: { id: '9', name: '\xff', dateSeconds: DATE_SECONDS } };
  const all = [
    ...snapshots(
      ['1', 'monday'],
      ['2', 'daily'],
      ['3', 'daily'],
      ['4', ''],
      ['5', 'current'],
      ['6', 'id:1'],
      ['7', '1'],
    ),
    ...snapshots(['8', 'name:x']),
    notUtf8,
  ];
  const names = stateNamesOf(all);
  expect(names).toEqual([
    ...['monday', 'id:2', 'id:3', 'id:4', 'name:current', 'name:id:1', '1', 'name:name:x'],
    'id:9',
  ]);
  expect(names.map((name) => find(all, name))).toEqual(all.map((_, index) => index + 1));
});

test('an image of QEMU in which a name is there twice, and is an id besides', () =>
  withTemporaryFolder((folder) => {
    const path = `${folder}/${IMAGE}`;
    createImage(path, { sizeBytes: 1 << 20 });
    for (const name of ['daily', '1', 'daily']) createSnapshot(path, name);
    const { snapshots: oracle } = JSON.parse(runCommand('qemu-img', ['info', '--output=json', path])) as {
      snapshots: { id: string; name: string }[];
    };
    const header = openImageHeader(path);
    try {
      const found = snapshotsOf(header);
      for (const [index, { id }] of oracle.entries()) expect(findState(path, found, `id:${id}`)).toBe(index + 1);
      expect(findState(path, found, '1')).toBe(oracle.findIndex(({ name }) => name === '1') + 1);
      expect(catchError(() => findState(path, found, 'daily'))).toMatchObject({ code: 'USAGE' });
    } finally {
      closeLayers(header.layers);
    }
  }));
