/** Which files an image may imply, and that no other is opened whoever changes names meanwhile. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { withoutKeys } from '../../src/open-image/layer-keys.ts';
import { type ChainOptions, closeLayers, filesOfLayers } from '../../src/open-image/layers.ts';
import { type OpenedBefore, openImage } from '../../src/open-image/open-image.ts';
import { fileIdentity } from '../../src/storage/file-storage.ts';
import { catchError } from '../support/catch-error.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const SIZE = '1M';
const RACE_MS = 1500;

afterEach(() => {
  vi.restoreAllMocks();
});

function createOverlay(image: string, backing: string, format = 'raw'): void {
  runCommand('qemu-img', ['create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', format, image, SIZE]);
}

function createPlain(image: string): void {
  runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, SIZE]);
}

/** QEMU makes the data file from the working directory. */
function createWithDataFile(folder: string, image: string, dataFile: string): void {
  runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', `data_file=${dataFile}`, image, SIZE], { cwd: folder });
}

function createRaw(file: string): void {
  fs.writeFileSync(file, Buffer.alloc(1 << 20, 7));
}

const identityOf = (file: string) => fileIdentity(fs.statSync(file));

/** The files that are opened with the image, by device and inode; or the code of the error. */
function openedWith(image: string, chain: Partial<ChainOptions> = {}, again?: OpenedBefore): string[] | string {
  let identities: string[] = [];
  const error = tryError(() => {
    const { layers } = openImage(image, withoutKeys, { allowedFolders: [], ...chain }, again);
    identities = filesOfLayers(layers).map(({ identity }) => identity);
    closeLayers(layers);
  });
  return error?.code ?? identities;
}

function tryError(action: () => void) {
  let hasEnded = false;
  try {
    return catchError(() => {
      action();
      hasEnded = true;
    });
  } catch (error) {
    if (hasEnded) return undefined;
    throw error;
  }
}

/** What takes the place of what in the folder: a symlink to where the image must not lead. */
interface Swap {
  readonly image: string;
  readonly name: string;
}

/** Each makes `images/` with an image, `secret/shadow`, and `other`, which is to take the place of a name. */
const SWAPS: Readonly<Record<string, (folder: string) => Swap>> = {
  'the backing file': (folder) => {
    createRaw(`${folder}/images/base.raw`);
    createOverlay(`${folder}/images/top.qcow2`, 'base.raw');
    fs.symlinkSync(`${folder}/secret/shadow`, `${folder}/other`);
    return { image: `${folder}/images/top.qcow2`, name: `${folder}/images/base.raw` };
  },
  'the data file': (folder) => {
    createWithDataFile(`${folder}/images`, 'top.qcow2', 'disk.raw');
    fs.symlinkSync(`${folder}/secret/shadow`, `${folder}/other`);
    return { image: `${folder}/images/top.qcow2`, name: `${folder}/images/disk.raw` };
  },
  'the folder of the backing file': (folder) => {
    fs.mkdirSync(`${folder}/images/sub`);
    createRaw(`${folder}/images/shadow`);
    createOverlay(`${folder}/images/top.qcow2`, 'sub/../shadow');
    fs.mkdirSync(`${folder}/secret/sub`);
    fs.symlinkSync(`${folder}/secret/sub`, `${folder}/other`);
    return { image: `${folder}/images/top.qcow2`, name: `${folder}/images/sub` };
  },
  'the image, by one in the folder of the secret,': (folder) => {
    createOverlay(`${folder}/images/top.qcow2`, `${folder}/secret/shadow`);
    createPlain(`${folder}/secret/top.qcow2`);
    fs.symlinkSync(`${folder}/secret/top.qcow2`, `${folder}/other`);
    return { image: `${folder}/images/top.qcow2`, name: `${folder}/images/top.qcow2` };
  },
  'the folder of the image, by that of the secret,': (folder) => {
    createOverlay(`${folder}/images/top.qcow2`, `${folder}/secret/shadow`);
    fs.symlinkSync(`${folder}/secret`, `${folder}/other`);
    return { image: `${folder}/images/top.qcow2`, name: `${folder}/images` };
  },
};

function withSwap(
  what: string,
  body: (swap: Swap & { folder: string; secret: string }) => void | Promise<void>,
): Promise<void> {
  return withTemporaryFolder(async (given) => {
    const folder = fs.realpathSync(given);
    for (const made of ['images', 'secret']) fs.mkdirSync(`${folder}/${made}`);
    fs.writeFileSync(`${folder}/secret/shadow`, 'root:x');
    const swap = SWAPS[what]?.(folder);
    if (swap === undefined) throw new Error(what);
    await body({ ...swap, folder, secret: identityOf(`${folder}/secret/shadow`) });
  });
}

/** `name` and `other` change places. */
function exchange(folder: string, name: string): void {
  fs.renameSync(name, `${folder}/spare`);
  fs.renameSync(`${folder}/other`, name);
  fs.renameSync(`${folder}/spare`, `${folder}/other`);
}

/** The calls by which files are looked at and opened. */
const CALLS = ['openSync', 'statSync', 'lstatSync', 'fstatSync', 'readlinkSync', 'existsSync', 'closeSync'] as const;

/** Opens the image and calls `happen` before each call, with its place in the order. Gives what was opened, and how many calls there were. */
function openWhile(image: string, happen: (call: number) => void): { opened: string[] | string; callCount: number } {
  let callCount = 0;
  let isInside = false;
  const step = () => {
    if (isInside) return;
    isInside = true;
    happen(callCount++);
    isInside = false;
  };
  const spies = CALLS.map((name) => {
    const original = fs[name] as (...args: unknown[]) => unknown;
    return vi.spyOn(fs, name).mockImplementation(((...args: unknown[]) => {
      step();
      return original.apply(fs, args);
    }) as never);
  });
  // Its own object, which is not reached by a spy on fs.
  const realpath = vi.spyOn(fs.realpathSync, 'native').mockImplementation(((...args: [string]) => {
    step();
    return realpathOf(...args);
  }) as never);
  try {
    return { opened: openedWith(image), callCount };
  } finally {
    for (const spy of [...spies, realpath]) spy.mockRestore();
  }
}
const realpathOf = fs.realpathSync.native;

describe.each(Object.keys(SWAPS))('%s that is swapped', (what) => {
  test('before any call of an open never leads out', () =>
    withSwap(what, ({ folder, image, name, secret }) => {
      const untouched = openWhile(image, () => {});
      expect(untouched.callCount).toBeGreaterThan(10);
      for (let at = 0; at < untouched.callCount; at++) {
        let isSwapped = false;
        const { opened } = openWhile(image, (call) => {
          if (call !== at) return;
          exchange(folder, name);
          isSwapped = true;
        });
        if (isSwapped) exchange(folder, name);
        expect(opened, `before call ${at}`).not.toContain(secret);
      }
      expect(openWhile(image, () => {}).opened).toEqual(untouched.opened);
    }));

  test('before any call of an open and put back before a later one never leads out', () =>
    withSwap(what, ({ folder, image, name, secret }) => {
      const { callCount } = openWhile(image, () => {});
      for (let at = 0; at < callCount; at++) {
        for (let back = at + 1; back < Math.min(callCount, at + 25); back++) {
          let swapCount = 0;
          const { opened } = openWhile(image, (call) => {
            if (call !== at && call !== back) return;
            exchange(folder, name);
            swapCount++;
          });
          if (swapCount % 2 === 1) exchange(folder, name);
          expect(opened, `before the calls ${at} and ${back}`).not.toContain(secret);
        }
      }
    }));

  test('all the time by another process never leads out', () =>
    withSwap(what, ({ folder, image, name, secret }) =>
      whileSwapped(folder, name, () => {
        const seen = new Set<string>();
        for (const end = Date.now() + RACE_MS; Date.now() < end; ) {
          const opened = openedWith(image);
          seen.add(typeof opened === 'string' ? opened : 'opened');
          expect(opened).not.toContain(secret);
        }
        // Nothing was raced if there was one outcome only.
        expect(seen.size).toBeGreaterThan(1);
      }),
    ));
});

/** Runs a process that makes `name` and `other` change places as fast as it can. */
async function whileSwapped(folder: string, name: string, body: () => void): Promise<void> {
  const script = `
    const fs = require('node:fs');
    const [folder, name] = process.argv.slice(1);
    const end = Date.now() + ${4 * RACE_MS};
    console.log('swapping');
    while (Date.now() < end) {
      for (let i = 0; i < 100; i++) {
        fs.renameSync(name, folder + '/spare');
        fs.renameSync(folder + '/other', name);
        fs.renameSync(folder + '/spare', folder + '/other');
      }
    }`;
  await whileRunning(spawn(process.execPath, ['-e', script, folder, name]), body);
}

/** Runs `body` once the program has printed something, and ends the program. */
async function whileRunning(program: ChildProcess, body: (pid: number) => void): Promise<void> {
  const ended = once(program, 'exit');
  try {
    if (program.stdout === null || program.pid === undefined) throw new Error('it did not start');
    await once(program.stdout, 'data');
    body(program.pid);
  } finally {
    program.kill('SIGKILL');
    await ended;
  }
}

/** The folders of `folder`: images/, images/sub/, ok/, ok/deep/, okay/ and base/, base/sub/; each with a raw file `b.raw`. */
function withFolders(body: (folder: string) => void | Promise<void>): Promise<void> {
  return withTemporaryFolder(async (given) => {
    const folder = fs.realpathSync(given);
    for (const made of ['images/sub', 'ok/deep', 'okay', 'base/sub']) {
      fs.mkdirSync(`${folder}/${made}`, { recursive: true });
    }
    for (const place of ['images', 'images/sub', 'ok', 'ok/deep', 'okay', 'base', 'base/sub']) {
      createRaw(`${folder}/${place}/b.raw`);
    }
    await body(folder);
  });
}

describe('a backing file', () => {
  test.each([
    ['b.raw', true],
    ['sub/b.raw', false],
    ['../ok/b.raw', true],
    ['../ok/deep/b.raw', true],
    ['../ok/deep/../b.raw', true],
    // The allowed folder is no prefix of names.
    ['../okay/b.raw', false],
    ['../ok/../okay/b.raw', false],
    ['../ok/out', false],
    ['../ok/folder/b.raw', false],
    ['../ok/inside', true],
    ['into', true],
  ])('%s is opened with an allowed folder: %s', (name, isOpened) =>
    withFolders((folder) => {
      fs.symlinkSync('../okay/b.raw', `${folder}/ok/out`);
      fs.symlinkSync('../okay', `${folder}/ok/folder`);
      fs.symlinkSync('deep/b.raw', `${folder}/ok/inside`);
      fs.symlinkSync('../ok/b.raw', `${folder}/images/into`);
      const image = `${folder}/images/top.qcow2`;
      createOverlay(image, name);
      const expected = isOpened ? [identityOf(image), identityOf(`${folder}/images/${name}`)] : 'REFUSED';
      expect(openedWith(image, { allowedFolders: [`${folder}/ok`] })).toEqual(expected);
    }),
  );

  test('is opened anywhere if the root is allowed', () =>
    withFolders((folder) => {
      createOverlay(`${folder}/images/top.qcow2`, '../okay/b.raw');
      expect(openedWith(`${folder}/images/top.qcow2`, { allowedFolders: ['/'] })).toHaveLength(2);
    }));

  test('may be beside the name of the image, and beside the file behind it', () =>
    withFolders((folder) => {
      for (const name of ['../images/b.raw', '../base/b.raw', '../ok/b.raw']) {
        createOverlay(`${folder}/base/top.qcow2`, name);
        fs.rmSync(`${folder}/images/link`, { force: true });
        fs.symlinkSync('../base/top.qcow2', `${folder}/images/link`);
        const isOwn = name !== '../ok/b.raw';
        expect(openedWith(`${folder}/images/link`), name).toEqual(isOwn ? expect.any(Array) : 'REFUSED');
      }
    }));

  test.each([
    ['a socket', (folder: string) => runCommand('perl', ['-MIO::Socket::UNIX', '-e', SOCKET, `${folder}/it`])],
    ['a character device', (folder: string) => runCommand('mknod', [`${folder}/it`, 'c', '1', '5'])],
    ['a FIFO', (folder: string) => runCommand('mkfifo', [`${folder}/it`])],
    ['a directory', (folder: string) => fs.mkdirSync(`${folder}/it`)],
  ])('that is %s is refused, and never opened', (_, make) =>
    withFolders((folder) => {
      make(`${folder}/images`);
      createOverlay(`${folder}/images/top.qcow2`, 'it');
      const opens = vi.spyOn(fs, 'openSync');
      const error = catchError(() => openImage(`${folder}/images/top.qcow2`));
      expect(error.code).toBe('IO');
      expect(error.message).toBe(
        `${folder}/images/top.qcow2 needs its backing file: ${folder}/images/it is neither a regular file nor a block device`,
      );
      // All but the image were held on to without being opened: O_PATH.
      const real = opens.mock.calls.filter(([, flags]) => (Number(flags) & 0o10000000) === 0);
      expect(real.map(([name]) => name)).toEqual([`${folder}/images/top.qcow2`]);
    }),
  );

  test('is opened by the file that was judged, with its own name in what is told of it', () =>
    withFolders((folder) => {
      fs.symlinkSync('b.raw', `${folder}/images/link`);
      createOverlay(`${folder}/images/top.qcow2`, 'link');
      const { layers } = openImage(`${folder}/images/top.qcow2`);
      closeLayers(layers);
      expect(layers.map(({ file }) => file.path)).toEqual(
        ['top.qcow2', 'link'].map((name) => `${folder}/images/${name}`),
      );
    }));

  test('is not opened without /proc, and the error says so', () =>
    withFolders((folder) => {
      const image = `${folder}/images/top.qcow2`;
      createOverlay(image, 'b.raw');
      const info = (script: string) =>
        tryCommand('unshare', [
          '--mount',
          '--propagation',
          'private',
          'sh',
          '-c',
          script,
          'sh',
          QCOW2FS,
          'info',
          image,
        ]);
      expect(info('exec "$@"').stderr).toBe('');
      const { stdout, stderr } = info('mount -t tmpfs none /proc && exec "$@"');
      expect(stdout + stderr).toContain('there is no /proc of this process');
      expect(stdout + stderr).toContain('mount -t proc');
    }));
});

const SOCKET = 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die';

describe('a chain', () => {
  test('of 64 files is opened, one of 65 is not', () =>
    withTemporaryFolder((folder) => {
      createRaw(`${folder}/0`);
      for (let depth = 1; depth < 65; depth++)
        createOverlay(`${folder}/${depth}`, `${depth - 1}`, depth === 1 ? 'raw' : 'qcow2');
      expect(openedWith(`${folder}/63`)).toHaveLength(64);
      const error = catchError(() => openImage(`${folder}/64`));
      expect(error.code).toBe('DAMAGED');
      expect(error.message).toBe(`${folder}/64: its backing chain has over 64 files`);
    }));

  test.each([3, 10])('that comes back after %i files is refused, from wherever it is entered', (length) =>
    withTemporaryFolder((folder) => {
      for (let index = 0; index < length; index++) {
        createOverlay(`${folder}/${index}`, `${(index + 1) % length}`, 'qcow2');
      }
      createOverlay(`${folder}/outside`, '1', 'qcow2');
      for (const name of ['0', '2', 'outside']) {
        const error = catchError(() => openImage(`${folder}/${name}`));
        expect(error.code).toBe('DAMAGED');
        expect(error.message).toContain('is the image itself or stands on it');
      }
    }),
  );
});

describe('a backing file that the user names', () => {
  const withNamed = (name: string, body: (image: string, base: string, folder: string) => void) =>
    withFolders((folder) => {
      const [image, base] = [`${folder}/images/top.qcow2`, `${folder}/base/base.qcow2`];
      createOverlay(image, 'gone', 'qcow2');
      createOverlay(base, name);
      body(image, base, folder);
    });

  test.each([
    ['b.raw', [], true],
    // Below its folder, and beside the image above: neither is its own folder.
    ['sub/b.raw', [], false],
    ['../images/b.raw', [], false],
    ['../ok/b.raw', [], false],
    ['sub/b.raw', ['base'], true],
    ['../images/b.raw', ['images'], true],
    ['../ok/deep/b.raw', ['ok'], true],
  ])('may imply %s with %j allowed: %s', (name, allowed, isOpened) =>
    withNamed(name, (image, base, folder) => {
      const allowedFolders = allowed.map((each) => `${folder}/${each}`);
      const chain = [image, base, `${folder}/base/${name}`].map(identityOf);
      expect(openedWith(image, { backingPath: base, allowedFolders })).toEqual(isOpened ? chain : 'REFUSED');
      // As an image that is opened by itself.
      expect(openedWith(base, { allowedFolders })).toEqual(isOpened ? chain.slice(1) : 'REFUSED');
    }),
  );

  test('is told of by its own name when what it implies is refused', () =>
    withNamed('sub/b.raw', (image, base, folder) => {
      const chain = { allowedFolders: [], backingPath: base };
      const { message } = catchError(() => openImage(image, withoutKeys, chain));
      expect(message).toContain(`${base}: its backing file ${folder}/base/sub/b.raw is not in the image's folder`);
      expect(message).toContain(`--allow-path ${folder}/base/sub`);
    }));

  test.each([
    ['disk.raw', true],
    ['sub/disk.raw', false],
    ['../images/disk.raw', false],
  ])('may imply the data file %s: %s', (name, isOpened) =>
    withFolders((folder) => {
      createOverlay(`${folder}/images/top.qcow2`, 'gone', 'qcow2');
      createWithDataFile(`${folder}/base`, 'base.qcow2', name);
      const opened = openedWith(`${folder}/images/top.qcow2`, { backingPath: `${folder}/base/base.qcow2` });
      expect(opened).toEqual(isOpened ? expect.any(Array) : 'REFUSED');
    }),
  );

  test('leaves the data file of the image above beside that one', () =>
    withFolders((folder) => {
      createWithDataFile(`${folder}/images`, 'top.qcow2', 'disk.raw');
      runCommand('qemu-img', ['rebase', '-u', '-b', 'gone', '-F', 'qcow2', 'top.qcow2'], { cwd: `${folder}/images` });
      createOverlay(`${folder}/base/base.qcow2`, 'b.raw');
      expect(openedWith(`${folder}/images/top.qcow2`, { backingPath: `${folder}/base/base.qcow2` })).toHaveLength(4);
    }));

  test('in the root allows nothing but what is in the root', () =>
    withNamed('b.raw', (image, base, folder) => {
      const link = `/qcow2fs-test-${process.pid}.qcow2`;
      fs.symlinkSync(base, link);
      try {
        createOverlay(base, `${folder}/ok/b.raw`);
        expect(openedWith(image, { backingPath: link })).toBe('REFUSED');
      } finally {
        fs.rmSync(link);
      }
    }));
});

describe('the folder of an image', () => {
  test('that was moved while it is open stays the one where it was found', () =>
    withFolders((folder) => {
      const image = `${folder}/images/top.qcow2`;
      createOverlay(image, 'b.raw');
      const chain = { allowedFolders: [] };
      const previous = openImage(image, withoutKeys, chain);
      try {
        const again = { previous, openPath: `/proc/self/fd/${previous.layers[0]?.file.fd}` };
        fs.renameSync(image, `${folder}/moved.qcow2`);
        const files = [`${folder}/moved.qcow2`, `${folder}/images/b.raw`].map(identityOf);
        expect(openedWith(image, {}, again)).toEqual(files);
        // Whoever may move the image may put something else in the place of its folder.
        fs.renameSync(`${folder}/images`, `${folder}/before`);
        fs.symlinkSync('ok', `${folder}/images`);
        expect(openedWith(image, {}, again)).toBe('REFUSED');
        expect(openedWith(image, { allowedFolders: [`${folder}/ok`] }, again)).toEqual([
          identityOf(`${folder}/moved.qcow2`),
          identityOf(`${folder}/ok/b.raw`),
        ]);
      } finally {
        closeLayers(previous.layers);
      }
    }));

  /** A process for which `over` lies on `under`, and what its names are through /proc. */
  const whileMountedElsewhere = (over: string, under: string, body: (root: string) => void) => {
    const script = 'mount --bind "$1" "$2" && echo ready && exec sleep 60';
    const args = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', over, under];
    return whileRunning(spawn('unshare', args), (pid) => body(`/proc/${pid}/root`));
  };

  test('is not one of the same name in another mount namespace: backing file', () =>
    withFolders((folder) =>
      whileMountedElsewhere(`${folder}/ok`, `${folder}/images`, (root) => {
        // The kernel's own name of the file behind it is that of a file beside the image.
        expect(fs.statSync(`${root}${folder}/images/b.raw`).ino).toBe(fs.statSync(`${folder}/ok/b.raw`).ino);
        const image = `${folder}/images/top.qcow2`;
        createOverlay(image, `${root}${folder}/images/b.raw`);
        expect(openedWith(image)).toEqual([identityOf(image), identityOf(`${folder}/images/b.raw`)]);
      }),
    ));

  test('is not one of the same name in another mount namespace: image', () =>
    withFolders((folder) => {
      createOverlay(`${folder}/base/top.qcow2`, `${folder}/ok/b.raw`);
      return whileMountedElsewhere(`${folder}/base`, `${folder}/ok`, (root) => {
        fs.symlinkSync(`${root}${folder}/ok/top.qcow2`, `${folder}/images/link`);
        expect(openedWith(`${folder}/images/link`)).toBe('STALE');
      });
    }));
});

describe('an external data file', () => {
  const LEADS: [what: string, make: (file: string, dataFile: string) => void][] = [
    ['a hard link', (file, dataFile) => fs.linkSync(file, dataFile)],
    ['a symlink', (file, dataFile) => fs.symlinkSync(file, dataFile)],
  ];

  test.each(LEADS)('that is the image itself is refused: %s', (_, make) =>
    withFolders((folder) => {
      const image = `${folder}/images/top.qcow2`;
      createWithDataFile(`${folder}/images`, 'top.qcow2', 'disk.raw');
      fs.rmSync(`${folder}/images/disk.raw`);
      make(image, `${folder}/images/disk.raw`);
      const error = catchError(() => openImage(image));
      expect(error.code).toBe('DAMAGED');
      expect(error.message).toBe(
        `${image}: its external data file name ${folder}/images/disk.raw leads to the image itself: --data-file FILE takes another one`,
      );
    }),
  );

  test('that is the image by its name is refused', () =>
    withFolders((folder) => {
      createWithDataFile(`${folder}/images`, 'top.qcow2', 'disk.raw');
      fs.renameSync(`${folder}/images/top.qcow2`, `${folder}/images/disk.raw`);
      const { message } = catchError(() => openImage(`${folder}/images/disk.raw`));
      expect(message).toContain('leads to the image itself');
    }));

  test.each(LEADS)('that is a qcow2 image of the chain is refused: %s', (_, make) =>
    withFolders((folder) => {
      const [image, base] = [`${folder}/images/top.qcow2`, `${folder}/images/base.qcow2`];
      createPlain(base);
      createWithDataFile(`${folder}/images`, 'top.qcow2', 'disk.raw');
      runCommand('qemu-img', ['rebase', '-u', '-b', 'base.qcow2', '-F', 'qcow2', image], { cwd: `${folder}/images` });
      expect(openedWith(image)).toHaveLength(3);
      fs.rmSync(`${folder}/images/disk.raw`);
      make(base, `${folder}/images/disk.raw`);
      const before = countDescriptors();
      const error = catchError(() => openImage(image));
      expect(error.code).toBe('DAMAGED');
      expect(error.message).toContain(
        `its external data file name ${folder}/images/disk.raw leads to ${base}, a qcow2 image of the chain`,
      );
      expect(countDescriptors()).toBe(before);
    }),
  );

  test('of a backing file that is the image above is refused', () =>
    withFolders((folder) => {
      const image = `${folder}/images/top.qcow2`;
      createWithDataFile(`${folder}/images`, 'base.qcow2', 'disk.raw');
      createOverlay(image, 'base.qcow2', 'qcow2');
      fs.rmSync(`${folder}/images/disk.raw`);
      fs.linkSync(image, `${folder}/images/disk.raw`);
      const { message } = catchError(() => openImage(image));
      expect(message).toContain(`${folder}/images/base.qcow2: its external data file name`);
      expect(message).toContain(`leads to ${image}, a qcow2 image of the chain`);
    }));

  test('of a backing file cannot be named by an option, so the error names one that helps', () =>
    withFolders((folder) => {
      const [image, base] = [`${folder}/images/top.qcow2`, `${folder}/images/base.qcow2`];
      const remedy = `--backing FILE takes another backing file of ${image}, --no-backing none`;
      createWithDataFile(`${folder}/images`, 'base.qcow2', 'disk.raw');
      createOverlay(image, 'base.qcow2', 'qcow2');
      fs.renameSync(`${folder}/images/disk.raw`, `${folder}/images/away.raw`);
      const { message } = catchError(() => openImage(image));
      expect(message).toBe(`${base} needs its data file: ${folder}/images/disk.raw: no such file (${remedy})`);
      expect(catchError(() => openImage(base)).message).toContain('(--data-file FILE takes another one)');

      fs.linkSync(base, `${folder}/images/disk.raw`);
      expect(catchError(() => openImage(image)).message).toMatch(new RegExp(`leads to the image itself: ${remedy}$`));
      // The first header extension of what qemu-img writes is the name of the data file.
      const bytes = fs.readFileSync(base);
      bytes.writeUInt32BE(0x12345678, bytes.indexOf('44415441', 0, 'hex'));
      fs.writeFileSync(base, bytes);
      expect(catchError(() => openImage(image)).message).toBe(
        `${base} needs an external data file, but does not name it: ${remedy}`,
      );
      expect(catchError(() => openImage(base)).message).toContain('does not name it: --data-file FILE does');

      const other = `${folder}/images/other.qcow2`;
      createPlain(other);
      expect(openedWith(image, { backingPath: other })).toEqual([identityOf(image), identityOf(other)]);
    }));

  test('of a backing file of a backing file that is not there is told like that', () =>
    withFolders((folder) => {
      const [image, middle] = [`${folder}/images/top.qcow2`, `${folder}/images/middle.qcow2`];
      createRaw(`${folder}/images/b.raw`);
      createOverlay(middle, 'b.raw');
      createOverlay(image, 'middle.qcow2', 'qcow2');
      fs.rmSync(`${folder}/images/b.raw`);
      expect(catchError(() => openImage(image)).message).toBe(
        `${middle} needs its backing file: ${folder}/images/b.raw: no such file ` +
          `(--backing FILE takes another backing file of ${image}, --no-backing none)`,
      );
    }));

  test('that the user names is refused if it is the image, as wrong usage', () =>
    withFolders((folder) => {
      const image = `${folder}/images/top.qcow2`;
      createWithDataFile(`${folder}/images`, 'top.qcow2', 'disk.raw');
      const error = catchError(() => openImage(image, withoutKeys, { allowedFolders: [], dataFilePath: image }));
      expect(error.code).toBe('USAGE');
      expect(error.message).toBe(`--data-file ${image} is the image itself: name the external data file of ${image}`);
      const { status, stderr } = tryCommand(QCOW2FS, ['list', '--volumes', '--data-file', image, image]);
      expect([status, stderr]).toEqual([2, `qcow2fs: ${error.message}\n`]);
    }));
});
