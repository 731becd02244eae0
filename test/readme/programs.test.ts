/** The table of README.md about programs that read volumes without root: what each reads, and what it does with a dirty journal. */

import fs from 'node:fs';
import path from 'node:path';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeFileSystem, writeDirtyDisk } from '../mounted/dirty-disk.ts';
import { makePartitionedImage, replaceDisk } from '../mounted/partitioned-image.ts';
import { createSnapshot } from '../oracle/qemu.ts';
import { runAsOrdinaryUser, tryAsOrdinaryUser } from '../support/ordinary-user.ts';
import { type CommandResult, runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { installForUsers, withUserPlace } from '../support/user-place.ts';
import { leaveJournalOpen } from '../volumes/file-systems/ntfs-journal.ts';
import { MIB, runSfdisk } from '../volumes/partitioned-disk.ts';
import { inlineCode, replaceNames, tableRows } from './readme.ts';

const PART_BYTES = 16 * MIB;
const EXT4 = { mkfs: ['mkfs.ext4', '-q', '-F'], sizeBytes: PART_BYTES } as const;
const NTFS = { mkfs: ['mkfs.ntfs', '-q', '-F', '-f'], sizeBytes: PART_BYTES } as const;
const FAT = { mkfs: ['mkfs.vfat'], sizeBytes: PART_BYTES } as const;
/** In the order of their partitions. The dirty ext4 has `new.txt` in its journal only. */
const KINDS = ['dirty ext4', 'ext4', 'dirty NTFS', 'NTFS', 'FAT'] as const;
type Kind = (typeof KINDS)[number];
const FILES = { 'old.txt': 'old', 'new.txt': 'new' } as const;
type FileName = keyof typeof FILES;

/** It has a test of its own, since it reads disks and starts a machine for that. */
const GUESTMOUNT = 'guestmount';
const GUESTMOUNT_TIMEOUT_MS = 600_000;

const folder = tmp.dirSync({ prefix: 'qcow2fs-programs-', unsafeCleanup: true, mode: 0o755 });
const image = path.join(folder.name, 'disk.qcow2');

beforeAll(() => {
  const at = (name: string) => path.join(folder.name, name);
  fs.mkdirSync(at('mounted'));
  for (const [name, contents] of Object.entries(FILES)) fs.writeFileSync(at(name), contents);
  writeDirtyDisk(at('ext4'), at('dirty ext4'), at('mounted'), EXT4);
  makeFileSystem(at('NTFS'), NTFS);
  makeFileSystem(at('FAT'), FAT);
  for (const name of Object.keys(FILES)) {
    runCommand('ntfscp', [at('NTFS'), at(name), name]);
    runCommand('mcopy', ['-i', at('FAT'), at(name), '::']);
  }
  const bytes = fs.readFileSync(at('NTFS'));
  leaveJournalOpen(bytes);
  fs.writeFileSync(at('dirty NTFS'), bytes);
  const raw = at('disk.raw');
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, (KINDS.length * 16 + 2) * MIB);
  runSfdisk(raw, `label: gpt\n${'size=16MiB\n'.repeat(KINDS.length)}`);
  for (const [index, kind] of KINDS.entries()) {
    runCommand('dd', [`if=${at(kind)}`, `of=${raw}`, 'bs=1M', `seek=${1 + 16 * index}`, 'conv=notrunc', 'status=none']);
  }
  replaceDisk(image, raw);
  createSnapshot(image, 'monday');
});

afterAll(() => folder.removeCallback());

const ROWS = tableRows('program').map(([commands = '', reads = '', dirty = '']) => {
  const codes = inlineCode(commands);
  return { program: codes[0]?.split(' ')[0] ?? '', codes, reads: reads.split(', '), dirty };
});

/** What a command said, and the file that it was to give. */
interface Outcome {
  readonly result: CommandResult;
  readonly contents: string | undefined;
}

/** Gets a file as the row says, in `place`. */
function getFile(codes: readonly string[], volume: string, name: FileName, place: string): Outcome {
  const [code = '', then] = codes.map((each) => replaceNames(each, { 'p1.raw': volume }));
  const run = (command: string) => tryAsOrdinaryUser(['sh', '-c', command], { cwd: place });
  const copy = path.join(place, name);
  if (code.includes(' DIR')) {
    const directory = path.join(place, 'dir');
    const result = run(`mkdir -p dir; ${replaceNames(code, { DIR: 'dir' })}`);
    if (result.status !== 0) return { result, contents: undefined };
    try {
      return { result, contents: run(`cat dir/${name}`).stdout || undefined };
    } finally {
      runAsOrdinaryUser(['fusermount3', '-u', directory]);
    }
  }
  if (then !== undefined) {
    const list = run(code);
    const number = new RegExp(`^r/r (\\S+):\\t${name}$`, 'm').exec(list.stdout)?.[1];
    if (number === undefined) return { result: list, contents: undefined };
    const result = run(replaceNames(then, { NUMBER: number }));
    return { result, contents: result.stdout || undefined };
  }
  const result = run(replaceNames(code, { FILE: name }));
  try {
    return { result, contents: (fs.existsSync(copy) && fs.readFileSync(copy, 'utf8')) || undefined };
  } finally {
    fs.rmSync(copy, { force: true });
  }
}

/** Mounts the disk of Monday as the row says, and compares files. */
function readByGuestmount(from: string, command: string, wanted: Readonly<Record<string, string>>): Promise<void> {
  return withUserPlace(
    (copy) => fs.copyFileSync(from, copy),
    ({ folder: place, image: copy, mountpoint }) => {
      const launcher = installForUsers(path.join(place, 'package'));
      runAsOrdinaryUser([launcher, 'mount', copy, mountpoint]);
      const cache = path.join(place, 'cache');
      fs.mkdirSync(cache);
      fs.chmodSync(cache, 0o777);
      const options = {
        cwd: cache,
        timeoutMs: GUESTMOUNT_TIMEOUT_MS,
        env: { TMPDIR: cache, LIBGUESTFS_CACHEDIR: cache, LIBGUESTFS_BACKEND_SETTINGS: 'force_tcg' },
      };
      const disk = `${mountpoint}/snapshots/monday/disk.raw`;
      const sh = (script: string) => runAsOrdinaryUser(['sh', '-c', script], options);
      sh(`mkdir dir; ${replaceNames(command, { 'disk.raw': disk, DIR: 'dir' })}`);
      try {
        for (const [name, contents] of Object.entries(wanted)) expect(sh(`cat 'dir/${name}'`)).toBe(contents);
      } finally {
        sh('guestunmount dir');
      }
      // It ends a little later than its mount, and has the disk open until then.
      sh(`for attempt in $(seq 600); do '${launcher}' umount '${mountpoint}' && exit; sleep 0.1; done; exit 1`);
    },
  );
}

describe('a program of the table', () => {
  test.each(ROWS.filter(({ program }) => program !== GUESTMOUNT))('$program', ({ codes, reads, dirty }) =>
    withUserPlace(
      (copy) => fs.copyFileSync(image, copy),
      ({ folder: place, image: copy, mountpoint }) => {
        const launcher = installForUsers(path.join(place, 'package'));
        runAsOrdinaryUser([launcher, 'mount', copy, mountpoint]);
        const get = (kind: Kind, name: FileName) => {
          const volume = path.join(mountpoint, 'snapshots/monday/volumes', `p${KINDS.indexOf(kind) + 1}.raw`);
          return getFile(codes, volume, name, place);
        };
        for (const kind of KINDS.filter((each) => reads.includes(each))) {
          expect(get(kind, 'old.txt').contents, kind).toBe('old');
          expect(get(kind, 'new.txt').contents, kind).toBe('new');
        }
        for (const kind of ['dirty ext4', 'dirty NTFS'] as const) {
          if (!reads.includes(kind.replace('dirty ', ''))) continue;
          const [older, newer] = [get(kind, 'old.txt'), get(kind, 'new.txt')];
          const said = older.result.stdout + older.result.stderr;
          if (dirty === 'refuses') {
            expect([older.result.status === 0, older.contents, newer.contents]).toEqual([false, undefined, undefined]);
          } else {
            expect(dirty).toBe('**older view, silently**');
            expect([older.result.status, older.contents]).toEqual([0, 'old']);
            if (kind === 'dirty ext4') expect(newer.contents).toBeUndefined();
            expect(said).not.toMatch(/warning|needs|recovery|replay|dirty|unclean/i);
          }
        }
        runAsOrdinaryUser([launcher, 'umount', mountpoint]);
      },
    ),
  );

  test('guestmount, with a dirty journal and with a logical volume', { timeout: GUESTMOUNT_TIMEOUT_MS }, () => {
    const { codes, reads, dirty } = ROWS.find(({ program }) => program === GUESTMOUNT) ?? {};
    expect([reads, dirty]).toEqual([['what Linux reads', 'also LVM (`-m /dev/VG/LV`)'], 'replays it']);
    const [command = ''] = codes ?? [];
    const [volumeOption = ''] = inlineCode(reads?.join() ?? '');
    return withTemporaryFolder(async (temporary) => {
      const { path: withGroup, states } = await makePartitionedImage(temporary);
      const wanted = fs.readFileSync(path.join(states[0]?.source ?? '', 'file 0'), 'utf8');
      const onGroup = replaceNames(command, { '-m /dev/sda1': replaceNames(volumeOption, { 'VG/LV': 'vg/root' }) });
      await readByGuestmount(image, command, { 'old.txt': 'old', 'new.txt': 'new' });
      await readByGuestmount(withGroup, onGroup, { 'file 0': wanted });
    });
  });

  test('is one of those', () => {
    expect(ROWS.map(({ program }) => program)).toEqual([
      ...['fuse2fs', 'debugfs', '7z', 'fls', 'ntfscat', 'mcopy', GUESTMOUNT],
    ]);
  });
});
