/** Which contents stay the same from one opening of an image to the next, on images that qemu-img changes in between. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { areSameContents, type ContentBlocks, firstBlocks, nextBlocks } from '../../src/daemon/content-blocks.ts';
import {
  closeImage,
  type OpenImage,
  openImage,
  openSettledImage,
  snapshotsOf,
} from '../../src/open-image/open-image.ts';
import { createImage, createSnapshot, deleteSnapshot, resizeImage, runQemuIo } from '../oracle/qemu.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const MIB = 1024 * 1024;
const AT_REST = { isBeingWritten: false, writerCount: 0, lowerWriterCount: 0 };
const WRITTEN_TO = { isBeingWritten: true, writerCount: 1 };

interface Opening {
  readonly image: OpenImage;
  readonly contents: ContentBlocks;
}

interface Followed {
  readonly path: string;
  readonly first: Opening;
  /** Opens the image anew. */
  next(before: Opening, writing?: Partial<typeof AT_REST>): Promise<Opening>;
}

async function withFollowed(body: (followed: Followed) => Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const path = `${folder}/disk.qcow2`;
    fs.writeFileSync(`${folder}/base.raw`, Buffer.alloc(MIB));
    createImage(path, { sizeBytes: MIB, backing: { name: 'base.raw', format: 'raw' } });
    for (const name of ['a', 'b', 'c']) createSnapshot(path, name);
    const images: OpenImage[] = [];
    const open = async () => {
      const image = await openSettledImage(path);
      images.push(image);
      return image;
    };
    try {
      const image = await open();
      const first = { image, contents: firstBlocks(image, AT_REST) };
      const next = async (before: Opening, writing: Partial<typeof AT_REST> = {}) => {
        const now = await open();
        return { image: now, contents: nextBlocks(before.contents, before.image, now, { ...AT_REST, ...writing }) };
      };
      await body({ path, first, next });
    } finally {
      for (const image of images) closeImage(image);
    }
  });
}

/** The block of each snapshot by its name. */
function blocksOf({ image, contents }: Opening): Record<string, number> {
  const names = Array.from(contents.places, (place) => snapshotsOf(image).at(place)?.entry.name ?? '');
  return Object.fromEntries(names.map((name, index) => [name, contents.blocks.snapshots[index] ?? 0]));
}

function allBlocks({ contents: { blocks } }: Opening): number[] {
  return [blocks.imageJson, blocks.current, ...Array.from(blocks.snapshots)];
}

/** What holds for each opening, whatever has changed. */
function expectRules(before: Opening, after: Opening): void {
  const all = allBlocks(after);
  expect(new Set(all).size).toBe(all.length);
  expect(Math.max(...all)).toBeLessThan(after.contents.next);
  expect(after.contents.blocks.imageJson).toBeGreaterThanOrEqual(before.contents.next);
  const snapshots = Array.from(after.contents.blocks.snapshots);
  expect(snapshots).toEqual(snapshots.toSorted((one, other) => one - other));
}

test('the first opening has a block for each of its contents', () =>
  withFollowed(async ({ first }) => {
    expect(blocksOf(first)).toEqual({ a: 3, b: 4, c: 5 });
    expect(first.contents).toMatchObject({ blocks: { imageJson: 1, current: 2 }, next: 6 });
  }));

describe('after a change', () => {
  const qemuImg = (...args: string[]) => runCommand('qemu-img', args);
  const folderOf = (path: string) => path.replace(/\/[^/]*$/, '');
  const changes: [string, string, boolean, (path: string) => void][] = [
    ['nothing', 'abc', true, () => {}],
    ['the guest writes', 'abc', false, (path) => runQemuIo(path, ['write -q -P 1 0 64k'])],
    ['a snapshot is made', 'abc', false, (path) => createSnapshot(path, 'd')],
    ['a snapshot is deleted', 'ac', false, (path) => deleteSnapshot(path, 'b')],
    [
      'a snapshot is made anew',
      'ac',
      false,
      (path) => {
        deleteSnapshot(path, 'b');
        createSnapshot(path, 'b');
      },
    ],
    ['the disk grows', 'abc', false, (path) => resizeImage(path, 2 * MIB)],
    ['a bitmap comes', 'abc', false, (path) => qemuImg('bitmap', '--add', path, 'x')],
    ['it stands on nothing', '', false, (path) => qemuImg('rebase', '-u', '-b', '', path)],
    [
      'its backing file changes',
      '',
      false,
      (path) => fs.writeFileSync(`${folderOf(path)}/base.raw`, Buffer.alloc(MIB, 1)),
    ],
    [
      'the file is a copy of itself',
      '',
      false,
      (path) => {
        fs.copyFileSync(path, `${path}.copy`);
        fs.renameSync(`${path}.copy`, path);
      },
    ],
  ];
  test.each(changes)('%s: what stays is "%s", and the current state: %s', (_, kept, isCurrentKept, change) =>
    withFollowed(async ({ path, first, next }) => {
      change(path);
      const second = await next(first);
      expectRules(first, second);
      const [before, after] = [blocksOf(first), blocksOf(second)];
      for (const [name, block] of Object.entries(after)) {
        if (kept.includes(name)) expect(block, name).toBe(before[name]);
        else expect(block, name).toBeGreaterThanOrEqual(first.contents.next);
      }
      expect(Object.keys(after)).toEqual(expect.arrayContaining([...kept]));
      expect(second.contents.blocks.current === first.contents.blocks.current).toBe(isCurrentKept);
      expect(areSameContents(first.contents, second.contents)).toBe(isCurrentKept);
    }),
  );
});

test('a snapshot whose place in the table is another one has the same block and the new place', () =>
  withFollowed(async ({ path, first, next }) => {
    exchangeEntries(path);
    const second = await next(first);
    expectRules(first, second);
    expect(snapshotsOf(second.image).at(0)?.entry.name).toBe('b');
    expect(blocksOf(second)).toEqual(blocksOf(first));
    expect([...second.contents.places]).toEqual([1, 0, 2]);
    expect(areSameContents(first.contents, second.contents)).toBe(false);
  }));

test('entries that are alike each have a block of their own, which they keep', () =>
  withFollowed(async ({ path, first, next }) => {
    copyFirstEntry(path);
    const alike = await next(first);
    expectRules(first, alike);
    expect(snapshotsOf(alike.image).at(0)).toEqual({ ...snapshotsOf(alike.image).at(1), index: 0 });
    expect(alike.contents.blocks.snapshots[0]).toBe(first.contents.blocks.snapshots[0]);
    const again = await next(alike);
    expect(again.contents.blocks.snapshots).toEqual(alike.contents.blocks.snapshots);
  }));

test('a block is never used again, however often a snapshot is made anew', () =>
  withFollowed(async ({ path, first, next }) => {
    const used = new Set(allBlocks(first));
    let last = first;
    for (let round = 0; round < 5; round++) {
      deleteSnapshot(path, 'c');
      createSnapshot(path, 'c');
      const now = await next(last);
      expectRules(last, now);
      const fresh = [now.contents.blocks.imageJson, now.contents.blocks.current, blocksOf(now).c ?? 0];
      for (const block of fresh) expect(used.has(block)).toBe(false);
      for (const block of fresh) used.add(block);
      last = now;
    }
  }));

describe('the current state', () => {
  test('is another one while it is written to, and another one again after that', () =>
    withFollowed(async ({ path, first, next }) => {
      runQemuIo(path, ['write -q -P 1 0 64k']);
      const busy = await next(first, WRITTEN_TO);
      runQemuIo(path, ['write -q -P 2 0 64k']);
      const later = await next(busy, WRITTEN_TO);
      const after = await next(later, { isBeingWritten: false, writerCount: 1 });
      const again = await next(after, { isBeingWritten: false, writerCount: 1 });
      const currents = [first, busy, later, after, again].map(({ contents }) => contents.blocks.current);
      expect(currents[2]).toBe(currents[1]);
      expect(new Set([currents[0], currents[2], currents[3]]).size).toBe(3);
      expect(currents[4]).toBe(currents[3]);
    }));

  test('stays what it was if a writer came and wrote nothing', () =>
    withFollowed(async ({ first, next }) => {
      const busy = await next(first, WRITTEN_TO);
      const after = await next(busy, { isBeingWritten: false, writerCount: 1 });
      expect(busy.contents.blocks.current).toBe(first.contents.blocks.current);
      expect(after.contents.blocks.current).toBe(first.contents.blocks.current);
    }));

  test('of a file that was just written to is called what it was, and another one once nothing can hide behind it', () =>
    withFollowed(async ({ path, first, next }) => {
      runQemuIo(path, ['write -q -P 1 0 64k']);
      const opened = openImage(path);
      try {
        const image = asOpenedEarly(opened);
        const young = { image, contents: nextBlocks(first.contents, first.image, image, AT_REST) };
        const settled = await next(young);
        expect(young.contents.blocks.current).toBe(first.contents.blocks.current);
        expect(settled.contents.blocks.current).not.toBe(young.contents.blocks.current);
      } finally {
        closeImage(opened);
      }
    }));
});

/** As if its files had been opened within the tick of their last change. */
function asOpenedEarly(image: OpenImage): OpenImage {
  const layers = image.layers.map((layer) => ({
    ...layer,
    file: { ...layer.file, openedAtMs: Math.max(layer.file.mtimeMs, layer.file.ctimeMs) },
  }));
  return { ...image, layers };
}

/** The two first entries of the table, which are of one length, change their places. */
function exchangeEntries(path: string): void {
  changeTable(path, (one, other) => [other, one]);
}

function copyFirstEntry(path: string): void {
  changeTable(path, (one) => [one, one]);
}

function changeTable(path: string, change: (one: Buffer, other: Buffer) => [Buffer, Buffer]): void {
  const bytes = fs.readFileSync(path);
  const start = Number(bytes.readBigUInt64BE(64));
  const length = Math.ceil((40 + bytes.readUInt32BE(start + 36) + 1 + 1) / 8) * 8;
  const entries = [0, 1].map((index) =>
    Buffer.from(bytes.subarray(start + index * length, start + (index + 1) * length)),
  );
  const [one, other] = entries;
  if (one === undefined || other === undefined) throw new Error('two entries are always cut out');
  Buffer.concat(change(one, other)).copy(bytes, start);
  fs.writeFileSync(path, bytes);
}

test('what was found in a state is known as long as the state is there', () =>
  withFollowed(async ({ path, first, next }) => {
    first.contents.volumeCounts.set([1, 2, 3, 4]);
    deleteSnapshot(path, 'a');
    createSnapshot(path, 'd');
    const second = await next(first);
    expect(blocksOf(second)).toMatchObject({ b: blocksOf(first).b, c: blocksOf(first).c });
    expect([...second.contents.volumeCounts]).toEqual([0, 3, 4, 0]);
    expect([...(await next(second)).contents.volumeCounts]).toEqual([0, 3, 4, 0]);
  }));
