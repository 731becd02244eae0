/** The file of a mounted image is exchanged, damaged or taken away: errors meanwhile, and the tree of what comes then. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { FileStorage, openFile } from '../../src/storage/file-storage.ts';
import { daemonOf, waitUntil } from '../daemon/mounting.ts';
import { createImage, createSnapshot } from '../oracle/qemu.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import {
  currentDisk,
  DISK_BYTES,
  expectFollowed,
  FAR,
  fillDisk,
  type LiveMount,
  letterAt,
  letterOf,
  makeLiveImage,
  snapshotDisk,
  waitUntilFollowed,
  whileOpen,
  withLiveImage,
  withLiveMount,
} from './live.ts';

/** Another image: its snapshot monday has the letter x, the current state y. */
function makeOther({ folder }: LiveMount): string {
  const other = path.join(folder, 'other.qcow2');
  createImage(other, { sizeBytes: DISK_BYTES });
  fillDisk(other, 'x');
  createSnapshot(other, 'monday');
  fillDisk(other, 'y');
  return other;
}

/** What may be read of a snapshot that may be there no more: its own bytes or an error, and nothing else. */
function expectNoGarbage(letter: string, ...errors: readonly string[]): void {
  expect([...errors, 'a']).toContain(letter);
}

const copyInto = (from: string, to: string) => runCommand('dd', [`if=${from}`, `of=${to}`, 'bs=1M', 'status=none']);

describe('open files fail with ESTALE and the tree is that of the other image, when the image', () => {
  const replacements: Readonly<Record<string, (image: string, other: string) => void>> = {
    'is replaced by rename': (image, other) => fs.renameSync(other, image),
    'is deleted, and another one made': (image, other) => {
      fs.rmSync(image);
      fs.copyFileSync(other, image);
    },
    'is overwritten in place': (image, other) => copyInto(other, image),
    'is a symlink that is changed': (image, other) => {
      fs.rmSync(image);
      fs.symlinkSync(other, image);
    },
  };
  test.each(Object.keys(replacements))('%s', (name) =>
    withLiveMount(async (live) => {
      const { image, mountpoint } = live;
      const other = makeOther(live);
      await whileOpen(snapshotDisk(mountpoint, 'monday'), (monday) =>
        whileOpen(currentDisk(mountpoint), async (current) => {
          expect([letterOf(monday, 0), letterOf(current, 0)]).toEqual(['a', 'c']);
          replacements[name]?.(image, other);
          expectNoGarbage(letterOf(monday, FAR + 4096), 'ESTALE', 'EIO');
          await expectFollowed(live);
          expect(letterAt(snapshotDisk(mountpoint, 'monday'), FAR)).toBe('x');
          for (const fd of [monday, current]) for (const at of [0, FAR]) expect(letterOf(fd, at)).toBe('ESTALE');
        }),
      );
    }),
  );
});

test('what this program itself reads of a file that is stale is told with the name of the error', () =>
  withLiveMount(async (live) => {
    const disk = currentDisk(live.mountpoint);
    const file = openFile(disk);
    try {
      const storage = new FileStorage(file);
      expect(storage.readUpTo(Buffer.alloc(1), 0, 1, 0)).toBe(1);
      fs.renameSync(makeOther(live), live.image);
      await expectFollowed(live);
      expect(catchError(() => storage.readUpTo(Buffer.alloc(1), 0, 1, FAR))).toMatchObject({
        code: 'IO',
        message: `${disk}: reading 1 bytes at ${FAR} failed: ESTALE: stale file handle, read`,
      });
    } finally {
      fs.closeSync(file.fd);
    }
  }));

describe('what was shown stays, the log says why in one line, and the tree follows again, when the image', () => {
  interface Loss {
    readonly lose: (live: LiveMount) => void;
    /** For the image in `spare` to come back; a rename without it. */
    readonly restore?: (live: LiveMount, spare: string) => void;
    readonly message: RegExp;
  }
  const losses: Readonly<Record<string, Loss>> = {
    'is replaced by a file that is no qcow2': {
      lose: ({ folder, image }) => {
        fs.writeFileSync(`${folder}/new`, 'x'.repeat(100_000));
        fs.renameSync(`${folder}/new`, image);
      },
      message: /not a qcow2 image|magic/,
    },
    'is overwritten by what is no qcow2': {
      lose: ({ image }) => fs.writeFileSync(image, 'x'.repeat(100_000)),
      restore: ({ image }, spare) => copyInto(spare, image),
      message: /not a qcow2 image|magic/,
    },
    'is cut to nothing': {
      lose: ({ image }) => fs.truncateSync(image, 0),
      restore: ({ image }, spare) => copyInto(spare, image),
      message: /empty|not a qcow2|short|end/,
    },
    'is replaced by a folder': {
      lose: ({ image }) => {
        fs.rmSync(image);
        fs.mkdirSync(image);
      },
      restore: ({ image }, spare) => {
        fs.rmdirSync(image);
        fs.renameSync(spare, image);
      },
      message: /neither a regular file nor a block device/,
    },
  };
  test.each(Object.keys(losses))('%s', (name) =>
    withLiveMount(async (live) => {
      const { folder, image, mountpoint } = live;
      const spare = path.join(folder, 'spare.qcow2');
      fs.copyFileSync(image, spare);
      const { lose, message, restore = () => fs.renameSync(spare, image) } = losses[name] ?? {};
      const pid = daemonOf(mountpoint);
      await whileOpen(snapshotDisk(mountpoint, 'monday'), async (monday) => {
        expect(letterOf(monday, 0)).toBe('a');
        lose?.(live);
        await waitUntil(() => live.log().includes('what was mounted of it stays as it was'));
        const lines = live
          .log()
          .split('\n')
          .filter((line) => line.includes('stays as it was'));
        expect(lines).toEqual([expect.stringMatching(message ?? /^$/)]);
        expect(lines[0]).toContain(image);
        expect(fs.readdirSync(path.join(mountpoint, 'snapshots')).sort()).toEqual(['monday', 'tuesday']);
        expectNoGarbage(letterOf(monday, FAR), 'ESTALE', 'EIO');
        expectNoGarbage(letterAt(snapshotDisk(mountpoint, 'monday'), FAR + 8192), 'ESTALE', 'EIO');
        restore(live, spare);
        createSnapshot(image, 'back');
        await expectFollowed(live);
        expect(daemonOf(mountpoint)).toBe(pid);
        expectNoGarbage(letterOf(monday, FAR + 4096), 'ESTALE');
      });
    }),
  );
});

describe('an image that is still there, but not at its name, is shown and followed when it', () => {
  const AWAY = 'was moved or deleted: it is shown until it is unmounted';

  test('is moved away, and back', () =>
    withLiveMount(async (live) => {
      const { image, mountpoint } = live;
      const away = `${image}.away`;
      await whileOpen(snapshotDisk(mountpoint, 'monday'), async (monday) => {
        fs.renameSync(image, away);
        await waitUntil(() => live.log().includes(AWAY));
        createSnapshot(away, 'elsewhere');
        await waitUntilFollowed(mountpoint, away);
        expect(letterAt(currentDisk(mountpoint), 0)).toBe('c');
        fs.renameSync(away, image);
        createSnapshot(image, 'back');
        await expectFollowed(live);
        expect(letterOf(monday, FAR)).toBe('a');
      });
    }));

  test('is deleted, until there is another one, and until the mount is unmounted', () =>
    withLiveMount(async (live) => {
      const { folder, image, mountpoint } = live;
      const spare = path.join(folder, 'spare.qcow2');
      fs.copyFileSync(image, spare);
      await whileOpen(snapshotDisk(mountpoint, 'monday'), async (monday) => {
        fs.rmSync(image);
        await waitUntil(() => live.log().includes(AWAY));
        expect(letterOf(monday, FAR)).toBe('a');
        expect([letterAt(snapshotDisk(mountpoint, 'tuesday'), FAR), letterAt(currentDisk(mountpoint), FAR)]).toEqual([
          'b',
          'c',
        ]);
        fs.renameSync(spare, image);
        createSnapshot(image, 'back');
        await expectFollowed(live);
        expect(['a', 'ESTALE']).toContain(letterOf(monday, FAR + 4096));
      });
      fs.rmSync(image);
      await waitUntil(() => live.log().split(AWAY).length === 3);
    }));
});

test('an image that is cut in the middle gives its bytes or an error, and is followed when it is whole', () =>
  withLiveMount(async (live) => {
    const { folder, image, mountpoint } = live;
    const spare = path.join(folder, 'spare.qcow2');
    fs.copyFileSync(image, spare);
    await whileOpen(snapshotDisk(mountpoint, 'monday'), async (monday) => {
      for (const sizeBytes of [25 << 20, 9 << 20, 1 << 20]) {
        fs.truncateSync(image, sizeBytes);
        for (const at of [FAR, FAR + 65536, 0]) expectNoGarbage(letterOf(monday, at), 'ESTALE', 'EIO');
        for (const name of ['monday', 'tuesday']) {
          expect(['a', 'b', 'EIO', 'ESTALE', 'ENOENT']).toContain(letterAt(snapshotDisk(mountpoint, name), FAR));
        }
      }
      copyInto(spare, image);
      await expectFollowed(live);
      expectNoGarbage(letterOf(monday, FAR), 'ESTALE');
    });
  }));

describe('states that stand on a backing file give errors and never its new bytes, when it', () => {
  const fates: Readonly<Record<string, (base: string) => void>> = {
    'is written to': (base) => fillDisk(base, 'z'),
    'is replaced': (base) => fs.renameSync(makeLiveImage(`${base}.new`), base),
    'is deleted': (base) => fs.rmSync(base),
    'is moved away': (base) => fs.renameSync(base, `${base}.away`),
  };
  test.each(Object.keys(fates))('%s', (name) =>
    withLiveImage(async (live) => {
      const { folder, image, mountpoint } = live;
      const base = path.join(folder, 'base.qcow2');
      const spare = path.join(folder, 'spare.qcow2');
      fs.renameSync(image, base);
      fs.copyFileSync(base, spare);
      createImage(image, { sizeBytes: DISK_BYTES, backing: { name: 'base.qcow2', format: 'qcow2' } });
      createSnapshot(image, 'monday');
      live.mount();
      await whileOpen(snapshotDisk(mountpoint, 'monday'), async (monday) => {
        expect(letterOf(monday, 0)).toBe('c');
        fates[name]?.(base);
        // One that only has another name, or none, is what it was to those who have it open.
        expect(['ESTALE', 'c']).toContain(letterOf(monday, FAR));
        if (name === 'is written to') expect(letterOf(monday, FAR)).toBe('ESTALE');
        if (fs.existsSync(base)) await expectFollowed(live);
        else await waitUntil(() => live.log().includes(base));
        fs.renameSync(spare, base);
        await expectFollowed(live);
        expect(['ESTALE', 'c']).toContain(letterOf(monday, FAR));
      });
      live.unmount();
    }),
  );
});

test('an image on a file system that is full keeps its tree when a snapshot fails there', () =>
  withLiveImage(async (live) => {
    const full = path.join(live.folder, 'full');
    fs.mkdirSync(full);
    runCommand('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'none', full]);
    try {
      const image = path.join(full, 'disk.qcow2');
      fs.copyFileSync(live.image, image);
      live.mount([], [image]);
      await whileOpen(snapshotDisk(live.mountpoint, 'monday'), async (monday) => {
        tryCommand('dd', ['if=/dev/zero', `of=${full}/rest`, 'bs=4k', 'status=none']);
        expect(tryCommand('qemu-img', ['snapshot', '-c', 'wednesday', image]).stderr).toContain('No space left');
        fs.rmSync(`${full}/rest`);
        expect(letterOf(monday, FAR)).toBe('a');
        await expectFollowed({ ...live, image });
        createSnapshot(image, 'thursday');
        await expectFollowed({ ...live, image });
        expect(letterOf(monday, FAR + 4096)).toBe('a');
      });
      live.unmount();
    } finally {
      runCommand('umount', ['-l', full]);
    }
  }));
