/** Somebody writes to a file that the image stands on: QEMU opens nothing of it then, and neither is anything shown here. */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ImageWatch } from '../../src/daemon/image-watch.ts';
import { closeServedImage, openServedImage, type ServedImage } from '../../src/daemon/served-image.ts';
import { createTree } from '../../src/daemon/served-tree.ts';
import type { FileSystem } from '../../src/filesystem/file-system.ts';
import * as imageJsonText from '../../src/open-image/image-json.ts';
import { collectWarnings } from '../fuse/wire-bytes.ts';
import { createImage, createSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { findNode, textOf } from '../support/tree-files.ts';
import { waitUntil } from './mounting.ts';
import { type Program, qemuIo, shell, vm, whileRunning } from './writers.ts';

const SIZE_BYTES = 1024 * 1024;
const OPTIONS = { chain: { allowedFolders: [] }, onMissing: 'error', ownership: {}, isCurrentLive: false } as const;

vi.mock('../../src/open-image/image-json.ts', { spy: true });

let warnings: string[];

beforeEach(() => {
  warnings = collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

interface Watched {
  readonly base: string;
  readonly top: string;
  /** Of what is served. */
  tree(): FileSystem;
  look(): ServedImage | undefined;
  /** Looks until what is served is sure to stay. */
  settle(): void;
}

/** `top.qcow2` with the snapshot `s` stands on `base.qcow2`, which has 1 everywhere. Each look is as in a mount. */
async function watching(body: (watched: Watched) => Promise<void>, options = {}): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const [base, top] = [`${folder}/base.qcow2`, `${folder}/top.qcow2`];
    createImage(base, { sizeBytes: SIZE_BYTES });
    runQemuIo(base, [`write -q -P 1 0 ${SIZE_BYTES}`]);
    createImage(top, { sizeBytes: SIZE_BYTES, backing: { name: 'base.qcow2', format: 'qcow2' } });
    createSnapshot(top, 's');
    const first = await openServedImage(top, [], { ...OPTIONS, ...options });
    const opened = [first];
    // As in a worker, whose caches are those of one opening.
    const trees = new Map<ServedImage, FileSystem>();
    const treeOf = (served: ServedImage) => {
      const tree = trees.get(served) ?? createTree(served);
      trees.set(served, tree);
      return tree;
    };
    const watch = new ImageWatch(first, { ...OPTIONS, ...options, mountpoint: '/mnt' });
    const look = () => {
      const next = watch.look();
      if (next !== undefined) opened.push(next);
      return next;
    };
    const settle = () => {
      do look();
      while (watch.isDoubtful);
    };
    try {
      await body({ base, top, look, settle, tree: () => treeOf(opened.at(-1) ?? first) });
    } finally {
      for (const served of opened) closeServedImage(served);
    }
  });
}

/** The first byte of a state, or the code of what was thrown. */
function firstByte(tree: FileSystem, state: string, action: 'open' | 'read' = 'read'): number | string | undefined {
  const target = Buffer.alloc(1);
  try {
    const node = findNode(tree, `${state}/disk.raw`);
    if (action === 'open') tree.open(node);
    else tree.read(node, target, 0, 0, 1);
    return target[0];
  } catch (error) {
    return (error as { code: string }).code;
  }
}

const STATES = ['current', 'snapshots/s'];
const firstBytes = (tree: FileSystem, action?: 'open') => STATES.map((state) => firstByte(tree, state, action));
const toldOf = (text: string) => warnings.filter((line) => line.includes(text));

const imageJson = (tree: FileSystem): unknown => JSON.parse(textOf(tree, 'image.json'));

/** What `qemu-img convert -l s` says, which reads the snapshot; empty if it does. */
function refusalOfQemu(top: string): string {
  const { stderr } = spawnSync('qemu-img', ['convert', '-l', 's', '-O', 'raw', top, `${top}.raw`], {
    encoding: 'utf8',
  });
  return stderr;
}

describe('no state is read while somebody writes to the backing file, and what it holds afterwards counts', () => {
  const writers: [string, (base: string) => Program, number][] = [
    ['a virtual machine that has written nothing so far', (base) => vm(base), 1],
    [
      'qemu-io, of whose writes only some are in the file',
      (base) => ({
        ...qemuIo(base, ['-f', 'qcow2', '-t', 'writeback']),
        input: 'write -P 9 0 64k\n',
        isReady: (output) => output.includes('wrote 65536/65536'),
      }),
      9,
    ],
  ];
  test.each(writers)('%s', (_, program, byteAfterwards) =>
    watching(async ({ base, top, tree, look, settle }) => {
      const before = tree();
      expect(firstBytes(before)).toEqual([1, 1]);
      expect(refusalOfQemu(top)).toBe('');
      await whileRunning(program(base), () => {
        look();
        expect(refusalOfQemu(top)).toContain('Failed to get shared "write" lock');
        expect(firstBytes(tree())).toEqual(['STALE', 'STALE']);
        expect(firstBytes(tree(), 'open')).toEqual(['BUSY', 'BUSY']);
        expect(firstBytes(before)).toEqual(['STALE', 'STALE']);
        const writer = { file: base, pid: expect.any(Number), command: expect.stringContaining('qemu') };
        expect(imageJson(tree())).toMatchObject({ writer: null, lowerWriter: writer });
        for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
      });
      settle();
      expect(firstBytes(tree())).toEqual([byteAfterwards, byteAfterwards]);
      expect(imageJson(tree())).toMatchObject({ writer: null, lowerWriter: null });
      expect(refusalOfQemu(top)).toBe('');
      expect(fs.readFileSync(`${top}.raw`)[0]).toBe(byteAfterwards);
      expect(toldOf(`${base} is written to by qemu`)).toHaveLength(1);
      expect(toldOf('stands on no file any more that is written to')).toHaveLength(1);
      expect(warnings).toHaveLength(2);
    }),
  );

  test('a program that takes no locks, once it has changed the file', () =>
    watching(async ({ base, tree, look, settle }) => {
      await whileRunning(shell(base, 'touch "$1"'), () => {
        look();
        // It is found once, when it has changed the file.
        for (let round = 0; round < 3; round++) {
          expect(firstBytes(tree())).toEqual(['STALE', 'STALE']);
          expect(look()).toBeUndefined();
        }
      });
      settle();
      expect(firstBytes(tree())).toEqual([1, 1]);
    }));

  test('what it changes meanwhile is no reason to open the image anew', () =>
    watching(({ base, tree, look, settle }) =>
      whileRunning(qemuIo(base), async ({ type }) => {
        look();
        for (const pattern of [8, 9]) {
          await type(`write -f -P ${pattern} 0 64k`, 'wrote 65536/65536');
          expect(look()).toBeUndefined();
        }
        await type('quit', '').then(() => waitUntil(() => look() !== undefined));
        settle();
        expect(firstBytes(tree())).toEqual([9, 9]);
      }),
    ));

  test('who is told of a failure on the way does not count as gone', () =>
    watching(async ({ base, tree, look }) => {
      await whileRunning(shell(base, 'touch "$1"'), () => {
        look();
        const read = vi.spyOn(fs, 'readFileSync').mockImplementation(() => {
          throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
        });
        expect(() => look()).toThrow('EMFILE');
        read.mockRestore();
        look();
        expect(firstBytes(tree())).toEqual(['STALE', 'STALE']);
      });
      expect(toldOf('is written to by sh')).toHaveLength(1);
    }));

  test('a look that fails while the writer goes leaves nothing busy', () =>
    watching(async ({ base, tree, look, settle }) => {
      await whileRunning(qemuIo(base), () => {
        const describe = vi.spyOn(imageJsonText, 'maxImageJsonBytes').mockImplementation(() => {
          throw new RangeError('no memory');
        });
        expect(() => look()).toThrow('no memory');
        describe.mockRestore();
      });
      settle();
      expect(firstBytes(tree(), 'open')).toEqual([0, 0]);
      expect(firstBytes(tree())).toEqual([1, 1]);
    }));

  test('also if it writes when the image is opened', () =>
    withTemporaryFolder(async (folder) => {
      const [base, top] = [`${folder}/base.qcow2`, `${folder}/top.qcow2`];
      createImage(base, { sizeBytes: SIZE_BYTES });
      createImage(top, { sizeBytes: SIZE_BYTES, backing: { name: 'base.qcow2', format: 'qcow2' } });
      createSnapshot(top, 's');
      await whileRunning(vm(base), async () => {
        const served = await openServedImage(top, [], OPTIONS);
        try {
          expect(firstBytes(createTree(served), 'open')).toEqual(['BUSY', 'BUSY']);
          expect(toldOf(`${base} is written to by qemu`)).toHaveLength(1);
        } finally {
          closeServedImage(served);
        }
      });
    }));

  test('two files below, one after the other', () =>
    withTemporaryFolder(async (folder) => {
      const [lowest, middle, top] = ['lowest', 'middle', 'top'].map((name) => `${folder}/${name}.qcow2`) as [
        string,
        string,
        string,
      ];
      createImage(lowest, { sizeBytes: SIZE_BYTES });
      createImage(middle, { sizeBytes: SIZE_BYTES, backing: { name: 'lowest.qcow2', format: 'qcow2' } });
      createImage(top, { sizeBytes: SIZE_BYTES, backing: { name: 'middle.qcow2', format: 'qcow2' } });
      const first = await openServedImage(top, [], OPTIONS);
      const opened = [first];
      try {
        const watch = new ImageWatch(first, { ...OPTIONS, mountpoint: '/mnt' });
        const look = () => {
          const next = watch.look();
          if (next !== undefined) opened.push(next);
          return createTree(opened.at(-1) ?? first);
        };
        for (const file of [lowest, middle]) {
          await whileRunning(vm(file), () => {
            const tree = look();
            expect(firstByte(tree, 'current', 'open')).toBe('BUSY');
            expect(imageJson(tree)).toMatchObject({ lowerWriter: { file } });
          });
          expect(firstByte(look(), 'current', 'open')).toBe(0);
        }
      } finally {
        for (const served of opened) closeServedImage(served);
      }
    }));
});

test('with a live current state, that one is read all the same, with what the file has now', () =>
  watching(
    async ({ base, tree, look, settle }) => {
      await whileRunning(vm(base), () => {
        look();
        expect(firstBytes(tree(), 'open')).toEqual([0, 'BUSY']);
        expect(firstBytes(tree())).toEqual([1, 'STALE']);
      });
      look();
      await whileRunning(qemuIo(base), async ({ type }) => {
        look();
        expect(firstBytes(tree())).toEqual([1, 'STALE']);
        // With FUA, the L2 entry is in the file.
        const before = tree();
        expect(firstBytes(before)).toEqual([1, 'STALE']);
        await type('write -f -z 0 64k', 'wrote 65536/65536');
        settle();
        expect(tree()).not.toBe(before);
        expect(firstBytes(tree())).toEqual([0, 'STALE']);
      });
    },
    { isCurrentLive: true },
  ));

test('an image that stands on a file which somebody has been writing to is refused from its first look on', () =>
  watching(async ({ base, top, tree, look }) => {
    const other = base.replace('base', 'other');
    runCommand('cp', [base, other]);
    await whileRunning(vm(other), () => {
      runCommand('qemu-img', ['rebase', '-u', '-b', 'other.qcow2', '-F', 'qcow2', top]);
      expect(look()).toBeDefined();
      expect(firstBytes(tree(), 'open')).toEqual(['BUSY', 'BUSY']);
      expect(imageJson(tree())).toMatchObject({ lowerWriter: { file: other } });
      expect(look()).toBeUndefined();
    });
  }));

test('what a block device below held before somebody wrote to it is not read afterwards', () =>
  withTemporaryFolder(async (folder) => {
    const [base, top] = [`${folder}/base.qcow2`, `${folder}/top.qcow2`];
    createImage(base, { sizeBytes: SIZE_BYTES });
    runQemuIo(base, ['write -q -P 1 0 64k']);
    fs.truncateSync(base, 8 * SIZE_BYTES);
    const device = runCommand('losetup', ['--find', '--show', base]).trim();
    const opened: ServedImage[] = [];
    try {
      createImage(top, { sizeBytes: SIZE_BYTES, backing: { name: device, format: 'qcow2' } });
      createSnapshot(top, 's');
      const options = { ...OPTIONS, chain: { allowedFolders: ['/dev'] } };
      const first = await openServedImage(top, [], options);
      opened.push(first);
      const watch = new ImageWatch(first, { ...options, mountpoint: '/mnt' });
      const look = () => {
        const next = watch.look();
        if (next !== undefined) opened.push(next);
        return createTree(opened.at(-1) ?? first);
      };
      const before = createTree(first);
      const nodes = STATES.map((state) => findNode(before, `${state}/disk.raw`));
      expect(firstBytes(before)).toEqual([1, 1]);
      const program = {
        ...qemuIo(device, ['-f', 'qcow2', '-t', 'writeback']),
        input: 'discard 0 64k\n',
        isReady: (output: string) => output.includes('discard 65536/65536'),
      };
      await whileRunning(program, () => {
        expect(firstBytes(look())).toEqual(['STALE', 'STALE']);
      });
      runQemuIo(device, ['discard -q 0 64k', 'write -q -P 9 512k 64k']);
      const after = look();
      expect(firstBytes(after)).toEqual([0, 0]);
      expect(firstBytes(before)).toEqual(['STALE', 'STALE']);
      const nodesAfter = STATES.map((state) => findNode(after, `${state}/disk.raw`));
      for (const node of nodesAfter) expect(nodes).not.toContain(node);
    } finally {
      for (const served of opened) closeServedImage(served);
      runCommand('losetup', ['-d', device]);
    }
  }));
