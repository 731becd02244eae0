/** What an image is shown as when things happen to its files, by real tools, one look after the other. */

import fs from 'node:fs';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ImageWatch } from '../../src/daemon/image-watch.ts';
import {
  closeServedImage,
  openServedImage,
  retireServedImage,
  type ServedImage,
} from '../../src/daemon/served-image.ts';
import { createTree } from '../../src/daemon/served-tree.ts';
import type { FileSystem } from '../../src/filesystem/file-system.ts';
import { collectWarnings } from '../fuse/wire-bytes.ts';
import { createImage, createSnapshot, deleteSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { catchError } from '../support/catch-error.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { findNode, textOf } from '../support/tree-files.ts';
import { type Program, qemuIo, shell, vm, whileRunning } from './writers.ts';

const SIZE_BYTES = 1024 * 1024;
/** What opens nothing, but holds on to it. */
const O_PATH = 0o10000000;
const OPTIONS = { chain: { allowedFolders: [] }, onMissing: 'error', ownership: {}, isCurrentLive: false } as const;

let warnings: string[];

beforeEach(() => {
  warnings = collectWarnings();
});
afterEach(() => {
  vi.restoreAllMocks();
});

interface Watch {
  readonly first: ServedImage;
  readonly watch: ImageWatch;
  /** As the daemon does: looks again until what is served is sure to stay. Returns what came last, if anything did. */
  settle(): ServedImage | undefined;
  /** Looks once. */
  look(): ServedImage | undefined;
  /** Of what is served once it is sure to stay. */
  permissions(): number;
}

interface Watched extends Watch {
  readonly folder: string;
  readonly image: string;
}

/** An image over `base.raw`: everything is 5 there, 1 in the snapshot `a`, 2 in `b`, and 3 now, in the first 64 KiB. */
async function withWatch(body: (watched: Watched) => void | Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const image = `${folder}/disk.qcow2`;
    makeImage(image, 0);
    fs.writeFileSync(`${folder}/base.raw`, Buffer.alloc(SIZE_BYTES, 5));
    await watching(image, (watched) => body({ ...watched, folder, image }));
  });
}

async function watching(image: string, body: (watched: Watch) => void | Promise<void>): Promise<void> {
  const first = await openServedImage(image, [], OPTIONS);
  const watch = new ImageWatch(first, { ...OPTIONS, mountpoint: '/mnt' });
  let last = first;
  const look = () => {
    const next = watch.look();
    if (next === undefined) return undefined;
    retireServedImage(last, next);
    last = next;
    return next;
  };
  const settle = () => {
    let found: ServedImage | undefined;
    do found = look() ?? found;
    while (watch.isDoubtful);
    return found;
  };
  const permissions = () => {
    settle();
    return last.ownership.permissions;
  };
  try {
    await body({ first, watch, look, settle, permissions });
  } finally {
    closeServedImage(last);
  }
}

function makeImage(image: string, add: number): void {
  const backing = { name: 'base.raw', format: 'raw' };
  fs.writeFileSync(image.replace(/[^/]*$/, 'base.raw'), Buffer.alloc(SIZE_BYTES, 5));
  createImage(image, { sizeBytes: SIZE_BYTES, backing });
  for (const [index, name] of ['a', 'b'].entries()) {
    runQemuIo(image, [`write -q -P ${index + 1 + add} 0 64k`]);
    createSnapshot(image, name);
  }
  runQemuIo(image, [`write -q -P ${3 + add} 0 64k`]);
}

function firstByte(tree: FileSystem, path: string): number | undefined {
  const target = Buffer.alloc(1);
  tree.read(findNode(tree, path), target, 0, 0, 1);
  return target[0];
}

const diskOf = (name: string) => `snapshots/${name}/disk.raw`;
const snapshotNames = (tree: FileSystem) => tree.entries(findNode(tree, 'snapshots')).map(({ name }) => name);
const told = () => warnings.filter((line) => line.includes('what was mounted of it stays as it was'));

/** A tree of something that may not be there. */
function treeOf(served: ServedImage | undefined): FileSystem {
  if (served === undefined) throw new Error('nothing new is served');
  return createTree(served);
}

/** Gives the images that were opened since, and not only held on to. */
function watchOpens(): () => string[] {
  const openSync = vi.spyOn(fs, 'openSync');
  return () =>
    openSync.mock.calls
      .filter(([, flags]) => (Number(flags) & O_PATH) === 0)
      .map(([path]) => String(path))
      .filter((path) => /qcow2$|fd\/\d+$/.test(path));
}

test('as long as nothing happens, nothing is opened', () =>
  withWatch(({ look, watch }) => {
    const opened = watchOpens();
    for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
    expect(opened()).toEqual([]);
    expect(watch.isDoubtful).toBe(false);
  }));

test('what the guest has written is the new current state, and the old one is STALE', () =>
  withWatch(({ first, image, settle }) => {
    const before = createTree(first);
    runQemuIo(image, ['write -q -P 9 0 64k']);
    const old = findNode(before, 'current/disk.raw');
    expect(catchError(() => before.read(old, Buffer.alloc(1), 0, 0, 1)).code).toBe('STALE');
    const after = treeOf(settle());
    expect(firstByte(after, 'current/disk.raw')).toBe(9);
    expect(catchError(() => after.read(old, Buffer.alloc(1), 0, 0, 1)).code).toBe('NOT_FOUND');
    expect(findNode(after, diskOf('a'))).toBe(findNode(before, diskOf('a')));
    expect(firstByte(after, diskOf('a'))).toBe(1);
  }));

test('a snapshot that was deleted is gone, and one that was made is there', () =>
  withWatch(({ first, image, settle }) => {
    deleteSnapshot(image, 'a');
    createSnapshot(image, 'c');
    const after = treeOf(settle());
    expect(snapshotNames(after)).toEqual(['b', 'c']);
    expect([firstByte(after, diskOf('b')), firstByte(after, diskOf('c'))]).toEqual([2, 3]);
    expect(findNode(after, diskOf('b'))).toBe(findNode(createTree(first), diskOf('b')));
  }));

test('what a look has seen that failed is seen by the next one', () =>
  withWatch(({ image, look, settle }) => {
    deleteSnapshot(image, 'a');
    const readFileSync = vi.spyOn(fs, 'readFileSync').mockImplementation(() => {
      throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
    });
    expect(look).toThrow('EMFILE');
    readFileSync.mockRestore();
    expect(snapshotNames(treeOf(settle()))).toEqual(['b']);
  }));

test('another image that is moved to the path is shown, and nothing of it is a node of the old one', () =>
  withWatch(({ first, folder, image, settle }) => {
    makeImage(`${folder}/other.qcow2`, 10);
    fs.renameSync(`${folder}/other.qcow2`, image);
    const after = treeOf(settle());
    expect(['a', 'b'].map((name) => firstByte(after, diskOf(name)))).toEqual([11, 12]);
    expect(firstByte(after, 'current/disk.raw')).toBe(13);
    for (const path of [diskOf('a'), diskOf('b'), 'current/disk.raw', 'image.json']) {
      expect(findNode(after, path), path).not.toBe(findNode(createTree(first), path));
    }
  }));

test('a backing file that is replaced changes everything', () =>
  withWatch(({ first, folder, settle }) => {
    const byteBehind = (tree: FileSystem, path: string) => {
      const target = Buffer.alloc(1);
      tree.read(findNode(tree, path), target, 0, 65_536, 1);
      return target[0];
    };
    const before = createTree(first);
    expect(byteBehind(before, diskOf('a'))).toBe(5);
    fs.writeFileSync(`${folder}/other.raw`, Buffer.alloc(SIZE_BYTES, 6));
    fs.renameSync(`${folder}/other.raw`, `${folder}/base.raw`);
    const after = treeOf(settle());
    for (const path of [diskOf('a'), 'current/disk.raw']) {
      expect(byteBehind(after, path)).toBe(6);
      expect(findNode(after, path)).not.toBe(findNode(before, path));
    }
  }));

describe('what cannot be opened stays as it was, is told of once, and is shown again when it can', () => {
  const failures: [string, string, (image: string) => void, (image: string) => void][] = [
    ['a file that is emptied', 'disk.qcow2', (image) => fs.truncateSync(image), restore],
    ['a header that is overwritten', 'disk.qcow2', (image) => overwrite(image, Buffer.alloc(512, 0xee)), restore],
    [
      'a backing file that is deleted',
      'base.raw: no such file',
      (image) => fs.renameSync(baseOf(image), `${baseOf(image)}.away`),
      (image) => fs.renameSync(`${baseOf(image)}.away`, baseOf(image)),
    ],
  ];
  test.each(failures)('%s', (_, message, harm, repair) =>
    withWatch(({ first, image, look, settle, watch }) => {
      fs.copyFileSync(image, `${image}.kept`);
      const before = createTree(first);
      harm(image);
      const descriptors = countDescriptors();
      for (let round = 0; round < 5; round++) expect(look()).toBeUndefined();
      expect(countDescriptors()).toBe(descriptors);
      expect(told()).toEqual([expect.stringContaining(message)]);
      // It is looked at again all the same, but not as often as what is about to settle.
      expect(watch.isDoubtful).toBe(false);
      expect(snapshotNames(before)).toEqual(['a', 'b']);
      repair(image);
      const after = treeOf(settle());
      expect(['a', 'b'].map((name) => firstByte(after, diskOf(name)))).toEqual([1, 2]);
      expect(firstByte(after, 'current/disk.raw')).toBe(3);
      harm(image);
      for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
      expect(told()).toHaveLength(2);
    }),
  );

  test('a file that is moved or deleted is read on, and followed', () =>
    withWatch(({ image, look, settle }) => {
      fs.renameSync(image, `${image}.away`);
      const moved = treeOf(settle());
      const telling = () => warnings.filter((line) => line.includes('was moved or deleted'));
      expect(telling()).toHaveLength(1);
      expect(['a', 'b'].map((name) => firstByte(moved, diskOf(name)))).toEqual([1, 2]);
      expect(firstByte(moved, 'current/disk.raw')).toBe(3);
      deleteSnapshot(`${image}.away`, 'a');
      fs.rmSync(`${image}.away`);
      const deleted = treeOf(settle());
      expect(snapshotNames(deleted)).toEqual(['b']);
      expect(firstByte(deleted, 'current/disk.raw')).toBe(3);
      expect(telling()).toHaveLength(1);
      const opened = watchOpens();
      for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
      expect(opened()).toEqual([]);
    }));

  test('a file that is moved and given to others is read on, by its owner alone until it is back', () =>
    withWatch(({ folder, image, look, settle }) => {
      fs.renameSync(image, `${image}.away`);
      settle();
      fs.chmodSync(`${image}.away`, 0o640);
      expect(settle()?.ownership.permissions).toBe(0o400);
      fs.chownSync(`${image}.away`, 1, 1);
      expect(settle()?.ownership).toEqual({ permissions: 0o400, uid: 1, gid: 1 });
      for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
      expect(told()).toEqual([]);
      fs.chmodSync(`${image}.away`, 0o604);
      fs.chmodSync(folder, 0o755);
      fs.chownSync(`${image}.away`, 0, 0);
      expect(settle()?.ownership).toEqual({ permissions: 0o400, uid: 0, gid: 0 });
      fs.renameSync(`${image}.away`, image);
      const back = settle();
      expect(back?.ownership).toEqual({ permissions: 0o404, uid: 0, gid: 0 });
      expect(firstByte(treeOf(back), 'current/disk.raw')).toBe(3);
    }));

  test.each([
    ['the file', (at: string) => `${at}/in/disk.qcow2`],
    ['the folder above it, which leaves no trace in the file', (at: string) => `${at}/in`],
  ])('only the owner may read what is not at its path, until it is back: %s', (_name, whatOf) =>
    withTemporaryFolder(async (given) => {
      const folder = fs.realpathSync(given);
      fs.chmodSync(folder, 0o755);
      fs.mkdirSync(`${folder}/in`, { mode: 0o755 });
      const image = `${folder}/in/disk.qcow2`;
      createImage(image, { sizeBytes: SIZE_BYTES });
      fs.chmodSync(image, 0o644);
      const what = whatOf(folder);
      await watching(image, ({ permissions }) => {
        expect(permissions()).toBe(0o444);
        fs.renameSync(what, `${what}.away`);
        expect(permissions()).toBe(0o400);
        fs.renameSync(`${what}.away`, what);
        expect(permissions()).toBe(0o444);
      });
    }),
  );

  test('a file that is moved behind a symlink is for those who may pass the folders there', () =>
    withWatch(({ first, folder, image, look, settle }) => {
      expect(first.ownership.permissions).toBe(0o444);
      const elsewhere = `${folder}/elsewhere`;
      fs.mkdirSync(elsewhere, { mode: 0o700 });
      fs.renameSync(image, `${elsewhere}/disk.qcow2`);
      fs.symlinkSync('elsewhere/disk.qcow2', image);
      expect(settle()?.ownership.permissions).toBe(0o400);
      const opened = watchOpens();
      for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
      expect(opened()).toEqual([]);
    }));

  test('a file that its owner alone could read where it was may be read by others where it is back', () =>
    withWatch(({ folder, image, settle }) => {
      const [shared, gone] = [`${folder}/shared`, `${image}.away`];
      fs.mkdirSync(shared, { mode: 0o700 });
      fs.renameSync(image, `${shared}/disk.qcow2`);
      fs.symlinkSync('shared/disk.qcow2', image);
      expect(settle()?.ownership.permissions).toBe(0o400);
      fs.renameSync(`${shared}/disk.qcow2`, gone);
      settle();
      fs.chmodSync(shared, 0o755);
      fs.renameSync(gone, `${shared}/disk.qcow2`);
      expect(settle()?.ownership.permissions).toBe(0o444);
    }));

  test.each([1, 2, 3, 4])(
    'a path that leads into our own mount after it was looked at is not followed there: %i',
    (after) =>
      withWatch(({ first, folder, image }) => {
        fs.mkdirSync(`${folder}/mnt`);
        makeImage(`${folder}/mnt/disk.qcow2`, 10);
        const watch = new ImageWatch(first, { ...OPTIONS, mountpoint: `${fs.realpathSync(folder)}/mnt` });
        fs.appendFileSync(image, 'x');
        let lookCount = 0;
        // Whoever looks at what is there finds a file, and then it becomes a symlink.
        for (const call of ['readlinkSync', 'openSync'] as const) {
          const real: (...args: unknown[]) => unknown = fs[call] as never;
          vi.spyOn(fs, call).mockImplementation(((...args: unknown[]) => {
            try {
              return real(...args);
            } finally {
              if (String(args[0]).endsWith('/disk.qcow2') && ++lookCount === after) {
                fs.renameSync(image, `${image}.away`);
                fs.symlinkSync('mnt/disk.qcow2', image);
              }
            }
          }) as never);
        }
        const shown = Array.from({ length: 4 }, () => watch.look()).filter((served) => served !== undefined);
        expect(lookCount).toBeGreaterThan(after);
        for (const served of shown) {
          expect(served.image.layers[0]?.file.identity).toBe(first.image.layers[0]?.file.identity);
          retireServedImage(served, first);
        }
        expect(told()).toEqual([expect.stringContaining(`${image} leads into its own mount`)]);
      }),
  );

  test('an image in another mount namespace is followed, but not another one that its path would lead to here', () =>
    withTemporaryFolder(async (given) => {
      const folder = fs.realpathSync(given);
      for (const [index, name] of ['here', 'there'].entries()) {
        fs.mkdirSync(`${folder}/${name}`);
        makeImage(`${folder}/${name}/disk.qcow2`, 10 * index);
      }
      const program: Program = {
        name: 'sleep',
        command: ['sh', '-euc', `mount --bind ${folder}/there ${folder}/here; echo ready; exec sleep 60`],
        isReady: (output) => output.includes('ready'),
      };
      const unshare = ['unshare', '--mount', '--propagation', 'private'];
      await whileRunning(
        program,
        async ({ pid }) => {
          const chain = { allowedFolders: [`${folder}/here`], backingPath: `${folder}/here/base.raw` };
          const options = { ...OPTIONS, chain };
          let served = await openServedImage(`/proc/${pid}/root${folder}/here/disk.qcow2`, [], options);
          try {
            const watch = new ImageWatch(served, { ...options, mountpoint: '/mnt' });
            const firstByteOf = () => firstByte(createTree(served), diskOf('b'));
            expect(firstByteOf()).toBe(12);
            expect([served.isPathFollowed, served.ownership.permissions]).toEqual([false, 0o400]);
            deleteSnapshot(`${folder}/there/disk.qcow2`, 'a');
            do {
              const next = watch.look();
              if (next !== undefined) retireServedImage(served, next);
              served = next ?? served;
            } while (watch.isDoubtful);
            expect(snapshotNames(createTree(served))).toEqual(['b']);
            expect(firstByteOf()).toBe(12);
            expect(warnings.filter((line) => line.includes('was moved or deleted'))).toEqual([]);
          } finally {
            closeServedImage(served);
          }
        },
        unshare,
      );
    }));

  test('snapshots of a file that is emptied are STALE', () =>
    withWatch(({ first, image, look }) => {
      fs.truncateSync(image);
      expect(look()).toBeUndefined();
      expect(catchError(() => firstByte(createTree(first), diskOf('a'))).code).toBe('STALE');
    }));
});

const baseOf = (image: string) => image.replace(/[^/]*$/, 'base.raw');

/** The bytes of before, in the same file. */
function restore(image: string): void {
  fs.writeFileSync(image, fs.readFileSync(`${image}.kept`));
}

function overwrite(image: string, bytes: Buffer): void {
  const fd = fs.openSync(image, 'r+');
  try {
    fs.writeSync(fd, bytes, 0, bytes.length, 0);
  } finally {
    fs.closeSync(fd);
  }
}

describe('while somebody writes, the current state is BUSY and its snapshots are read; afterwards it is another one', () => {
  const writers: [string, (image: string) => Program, number][] = [
    ['a virtual machine that has written nothing so far', (image) => vm(image), 3],
    [
      'qemu-io, which has written',
      (image) => ({
        ...qemuIo(image),
        // With FUA, also what points to it is in the file.
        input: 'write -f -P 9 0 64k\n',
        isReady: (output) => output.includes('wrote 65536/65536'),
      }),
      9,
    ],
    ['a program that takes no locks', (image) => shell(image, 'touch "$1"'), 3],
  ];
  test.each(writers)('%s', (_, program, byteAfterwards) =>
    withWatch(async ({ image, look, settle }) => {
      await whileRunning(program(image), () => {
        const busy = treeOf(look());
        const current = findNode(busy, 'current/disk.raw');
        expect(catchError(() => busy.open(current)).code).toBe('BUSY');
        expect(catchError(() => busy.read(current, Buffer.alloc(1), 0, 0, 1)).code).toBe('STALE');
        expect(['a', 'b'].map((name) => firstByte(busy, diskOf(name)))).toEqual([1, 2]);
        expect(JSON.parse(textOf(busy, 'image.json'))).toMatchObject({ writer: { pid: expect.any(Number) } });
        for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
      });
      const after = treeOf(settle());
      expect(firstByte(after, 'current/disk.raw')).toBe(byteAfterwards);
      expect(warnings.filter((line) => line.includes('is written to by'))).toHaveLength(1);
      expect(warnings.filter((line) => line.includes('is not written to any more'))).toHaveLength(1);
    }),
  );
});

test('who may read the image is noticed also while a virtual machine has it', () =>
  withTemporaryFolder(async (given) => {
    const folder = fs.realpathSync(given);
    fs.chmodSync(folder, 0o755);
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: SIZE_BYTES });
    fs.chmodSync(image, 0o644);
    await whileRunning(vm(image), async () => {
      await watching(image, ({ look, permissions }) => {
        const permissionsNow = () => {
          const now = permissions();
          for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
          return now;
        };
        expect(permissionsNow()).toBe(0o444);
        fs.chmodSync(image, 0o640);
        expect(permissionsNow()).toBe(0o440);
        fs.renameSync(image, `${image}.away`);
        expect(permissionsNow()).toBe(0o400);
        fs.renameSync(`${image}.away`, image);
        expect(permissionsNow()).toBe(0o440);
      });
    });
  }));

test('a writer that has gone is told of once, and what was shown of its block device before is not read', () =>
  withTemporaryFolder(async (folder) => {
    const image = `${folder}/disk.qcow2`;
    createImage(image, { sizeBytes: SIZE_BYTES });
    runQemuIo(image, ['write -q -P 3 0 64k']);
    fs.truncateSync(image, 8 * SIZE_BYTES);
    await withLoopDevice(image, async (device) => {
      const first = await openServedImage(device, [], OPTIONS);
      const watch = new ImageWatch(first, { ...OPTIONS, mountpoint: '/mnt' });
      const opened = [first];
      const look = () => {
        const next = watch.look();
        if (next !== undefined) opened.push(next);
        return next;
      };
      try {
        const before = createTree(first);
        expect(firstByte(before, 'current/disk.raw')).toBe(3);
        await whileRunning(qemuIo(device), () => {
          expect(firstByteOrCode(treeOf(look()))).toBe('STALE');
          expect(firstByteOrCode(before)).toBe('STALE');
        });
        // The cluster that was at the start of the disk is elsewhere in it now.
        runQemuIo(device, ['discard -q 0 64k', 'write -q -P 9 512k 64k']);
        const header = fs.readFileSync(device).subarray(0, 512);
        overwrite(device, Buffer.alloc(512));
        for (let round = 0; round < 3; round++) expect(look()).toBeUndefined();
        expect(firstByteOrCode(before)).toBe('STALE');
        overwrite(device, header);
        expect(firstByteOrCode(treeOf(look()))).toBe(0);
        expect(firstByteOrCode(before)).toBe('STALE');
        expect(warnings.filter((line) => line.includes('is not written to any more'))).toHaveLength(1);
        expect(told()).toHaveLength(1);
      } finally {
        for (const served of opened) closeServedImage(served);
      }
    });
  }));

function firstByteOrCode(tree: FileSystem): number | string | undefined {
  try {
    return firstByte(tree, 'current/disk.raw');
  } catch (error) {
    return (error as { code: string }).code;
  }
}

async function withLoopDevice(image: string, body: (device: string) => Promise<void>): Promise<void> {
  const device = runCommand('losetup', ['--find', '--show', image]).trim();
  try {
    await body(device);
  } finally {
    runCommand('losetup', ['-d', device]);
  }
}
