/** Whether a file system asks for its recovery, compared with what the kernel and the file system's own tools say. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { Random } from '../../oracle/random.ts';
import { runCommand, tryCommand } from '../../support/run-command.ts';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';
import { unmountLoop } from '../../support/unmount-loop.ts';
import { restartPage } from './ntfs-journal.ts';
import { makeEmptyFile, probeFile } from './probing.ts';
import { MIB } from './recipes.ts';

interface Case {
  readonly title: string;
  readonly mkfs: readonly string[];
  readonly sizeBytes: number;
  readonly options?: string;
}

const JOURNALLED: readonly Case[] = [
  { title: 'ext3', mkfs: ['mkfs.ext3', '-q'], sizeBytes: 32 * MIB },
  { title: 'ext4', mkfs: ['mkfs.ext4', '-q', '-O', 'metadata_csum,64bit'], sizeBytes: 32 * MIB },
  { title: 'xfs', mkfs: ['mkfs.xfs', '-q'], sizeBytes: 300 * MIB },
  { title: 'xfs, version 4', mkfs: ['mkfs.xfs', '-q', '-m', 'crc=0'], sizeBytes: 300 * MIB },
  { title: 'xfs, log records of 256 KiB', mkfs: ['mkfs.xfs', '-q'], sizeBytes: 300 * MIB, options: 'logbsize=256k' },
  { title: 'xfs, a log stripe', mkfs: ['mkfs.xfs', '-q', '-l', 'su=64k,size=64m'], sizeBytes: 600 * MIB },
  { title: 'btrfs', mkfs: ['mkfs.btrfs', '-q'], sizeBytes: 128 * MIB },
];

const WITHOUT_JOURNAL: readonly Case[] = [
  { title: 'ext2', mkfs: ['mkfs.ext2', '-q'], sizeBytes: 16 * MIB },
  { title: 'ext4', mkfs: ['mkfs.ext4', '-q', '-O', '^has_journal'], sizeBytes: 16 * MIB },
];

/** Mounts writable, as a virtual machine does, and unmounts whatever happens. */
function whileMounted(file: string, options: string | undefined, body: (mounted: string) => void): void {
  const mounted = `${file}.mounted`;
  fs.mkdirSync(mounted, { recursive: true });
  runCommand('mount', ['-o', ['loop', options].filter((option) => option !== undefined).join(','), file, mounted]);
  try {
    body(mounted);
  } finally {
    unmountLoop(file, mounted);
  }
}

/** A file whose bytes are on the disk, when the last transaction may not be yet. */
function writeSynchronized(mounted: string, name: string): void {
  fs.writeFileSync(path.join(mounted, name), `content of ${name}\n`.repeat(1000), { flush: true });
}

function copyOf(file: string, name: string): string {
  const copy = path.join(path.dirname(file), name);
  runCommand('cp', ['--sparse=always', file, copy]);
  return copy;
}

/** The kernel mounts a device that cannot be written to only if there is nothing to recover. */
function kernelWantsRecovery(file: string): boolean {
  const mounted = `${file}.mounted`;
  fs.mkdirSync(mounted, { recursive: true });
  const device = runCommand('losetup', ['-f', '--show', '-r', file]).trim();
  try {
    const { status, stderr } = tryCommand('mount', ['-o', 'ro', device, mounted]);
    if (status === 0) runCommand('umount', [mounted]);
    else expect(stderr).toMatch(/cannot mount|can't read superblock|wrong fs type/);
    return status !== 0;
  } finally {
    runCommand('losetup', ['-d', device]);
  }
}

function isDirty(file: string): boolean | undefined {
  const { probe, problems } = probeFile(file);
  expect(problems).toEqual([]);
  return probe?.isDirty;
}

function make(folder: string, { mkfs, sizeBytes }: Case): string {
  const file = makeEmptyFile(folder, sizeBytes);
  const [command = '', ...args] = mkfs;
  runCommand(command, [...args, file]);
  return file;
}

function extState(file: string): string {
  const text = runCommand('dumpe2fs', ['-h', file]);
  return text.match(/^Filesystem state: +(.*)$/m)?.[1] ?? '';
}

describe.each(JOURNALLED)('$title', (fileSystem) => {
  it('is dirty as long as it is mounted and clean before and after, as the kernel says', ({ skip }) =>
    withTemporaryFolder((folder) => {
      const file = make(folder, fileSystem);
      skip(kernelWantsRecovery(file), `this kernel does not mount ${fileSystem.title}, new as it is`);
      const copies = [copyOf(file, 'new.raw')];
      whileMounted(file, fileSystem.options, (mounted) => {
        for (let index = 0; index < 20; index++) writeSynchronized(mounted, `file ${index}`);
        copies.push(copyOf(file, 'mounted.raw'));
      });
      copies.push(copyOf(file, 'unmounted.raw'));
      const recovered = copyOf(path.join(folder, 'mounted.raw'), 'recovered.raw');
      whileMounted(recovered, undefined, (mounted) => expect(fs.readdirSync(mounted)).toContain('file 19'));
      copies.push(recovered);

      expect(copies.map(isDirty)).toEqual([false, true, false, false]);
      expect(copies.map(isDirty)).toEqual(copies.map(kernelWantsRecovery));
    }));
});

describe('xfs', () => {
  it('is told wherever in its log the head is, also when that has gone round', () =>
    withTemporaryFolder((folder) => {
      // Every synchronization writes 32 KiB of the 10 MiB of log, so that three rounds fill it about three times.
      const mkfs = ['mkfs.xfs', '-q', '--unsupported', '-l', 'su=32k,size=10m'];
      const file = make(folder, { title: 'xfs', mkfs, sizeBytes: 64 * MIB });
      const told: (boolean | undefined)[] = [];
      const wanted: boolean[] = [];
      const compare = (name: string) => {
        const copy = copyOf(file, name);
        told.push(isDirty(copy));
        wanted.push(kernelWantsRecovery(copy));
        fs.rmSync(copy);
      };
      for (let round = 0; round < 3; round++) {
        whileMounted(file, undefined, (mounted) => {
          for (let index = 0; index < 330; index++) {
            fs.writeFileSync(path.join(mounted, `${round}-${index}`), 'content', { flush: true });
            if (index % 30 === 0) compare('mounted.raw');
          }
        });
        compare('unmounted.raw');
      }
      expect(told).toEqual(wanted);
      expect(new Set(told)).toEqual(new Set([true, false]));
      expect(logCycle(file)).toBeGreaterThan(2);
    }));
});

describe('xfs with a log of which only some of the last writes arrived', () => {
  it('is never told clean when the kernel wants to recover it', () =>
    withTemporaryFolder((folder) => {
      const mkfs = ['mkfs.xfs', '-q', '--unsupported', '-l', 'su=32k,size=10m'];
      const file = make(folder, { title: 'xfs', mkfs, sizeBytes: 64 * MIB });
      const random = new Random(11);
      const log = placeOfLog(file);
      const answers: string[] = [];
      // The log goes round in the last round.
      for (let round = 0; round < 6; round++) {
        const before = fs.readFileSync(file);
        let after = before;
        whileMounted(file, undefined, (mounted) => {
          for (let index = 0; index < 60; index++) {
            fs.writeFileSync(path.join(mounted, `${round}-${index}`), 'content', { flush: true });
            if (index === 20) after = fs.readFileSync(file);
          }
        });
        for (let torn = 0; torn < 4; torn++) {
          const mixed = path.join(folder, 'mixed.raw');
          fs.writeFileSync(mixed, mixWrites(before, after, log, random));
          const told = isDirty(mixed);
          const wanted = kernelWantsRecovery(mixed);
          if (told === false) expect(wanted).toBe(false);
          answers.push(`${told} ${wanted}`);
        }
      }
      // The kernel judges by checksums as well, and may find less that is complete: only the other direction is certain.
      expect(answers).toContain('true true');
      expect(answers).toContain('false false');
    }));
});

interface LogPlace {
  readonly offset: number;
  readonly length: number;
}

function placeOfLog(file: string): LogPlace {
  const text = runCommand('xfs_db', [
    '-r',
    '-c',
    'sb 0',
    '-c',
    'print logstart logblocks blocksize agblocks agblklog',
    file,
  ]);
  const field = (name: string) => Number(text.match(new RegExp(`^${name} = (\\d+)$`, 'm'))?.[1]);
  const group = Math.floor(field('logstart') / 2 ** field('agblklog'));
  const block = group * field('agblocks') + (field('logstart') % 2 ** field('agblklog'));
  return { offset: block * field('blocksize'), length: field('logblocks') * field('blocksize') };
}

/** `before` with most sectors of the log, in pieces of up to 64, as they are in `after`. */
function mixWrites(before: Buffer, after: Buffer, log: LogPlace, random: Random): Buffer {
  const mixed = Buffer.from(before);
  let offset = log.offset;
  while (offset < log.offset + log.length) {
    const end = Math.min(offset + random.length(64) * 512, log.offset + log.length);
    if (random.chance(0.95)) after.copy(mixed, offset, offset, end);
    offset = end;
  }
  return mixed;
}

/** The number of the newest cycle in the log. */
function logCycle(file: string): number {
  const cycles = [...runCommand('xfs_logprint', [file]).matchAll(/cycle: (\d+)/g)].map(([, cycle]) => Number(cycle));
  return Math.max(...cycles);
}

describe.each(WITHOUT_JOURNAL)('$title without a journal', (fileSystem) => {
  it('is dirty as long as it is mounted, as dumpe2fs says', () =>
    withTemporaryFolder((folder) => {
      const file = make(folder, fileSystem);
      let copy = '';
      whileMounted(file, undefined, (mounted) => {
        writeSynchronized(mounted, 'file');
        runCommand('sync', ['-f', mounted]);
        copy = copyOf(file, 'mounted.raw');
      });
      expect([copy, file].map(extState)).toEqual(['not clean', 'clean']);
      expect([copy, file].map(isDirty)).toEqual([true, false]);
    }));
});

describe('ext4', () => {
  it('is dirty after the kernel saw an error in it, also when it was unmounted', () =>
    withTemporaryFolder((folder) => {
      const file = make(folder, { title: 'ext4', mkfs: ['mkfs.ext4', '-q'], sizeBytes: 16 * MIB });
      runCommand('debugfs', ['-w', '-R', 'set_super_value state 3', file]);
      expect(extState(file)).toBe('clean with errors');
      expect(isDirty(file)).toBe(true);
    }));
});

function patch(file: string, offset: number, bytes: readonly number[] | Buffer): void {
  const fd = fs.openSync(file, 'r+');
  try {
    fs.writeSync(fd, Buffer.from(bytes), 0, bytes.length, offset);
  } finally {
    fs.closeSync(fd);
  }
}

describe('vfat', () => {
  it.each([
    { bits: '12', sizeBytes: 4 * MIB, state: 37, clean: undefined },
    { bits: '16', sizeBytes: 16 * MIB, state: 37, clean: false },
    { bits: '32', sizeBytes: 64 * MIB, state: 65, clean: false },
  ])('of $bits bits is dirty with the mark of Linux, as fsck.fat says', ({ bits, sizeBytes, state, clean }) =>
    withTemporaryFolder((folder) => {
      const file = make(folder, { title: '', mkfs: ['mkfs.vfat', '-F', bits], sizeBytes });
      const complains = () => tryCommand('fsck.fat', ['-n', file]).stdout.includes('Dirty bit is set');
      expect([complains(), isDirty(file)]).toEqual([false, clean]);
      patch(file, state, [0x01]);
      expect([complains(), isDirty(file)]).toEqual([true, true]);
    }),
  );

  it.each([
    { bits: '16', sizeBytes: 16 * MIB, highByte: 3, value: 0x7f },
    { bits: '32', sizeBytes: 64 * MIB, highByte: 7, value: 0x07 },
  ])('of $bits bits is dirty with the mark of Windows', ({ bits, sizeBytes, highByte, value }) =>
    withTemporaryFolder((folder) => {
      const file = make(folder, { title: '', mkfs: ['mkfs.vfat', '-F', bits], sizeBytes });
      const reservedSectors = fs.readFileSync(file).readUInt16LE(14);
      patch(file, reservedSectors * 512 + highByte, [value]);
      expect(isDirty(file)).toBe(true);
    }),
  );
});

describe('exfat', () => {
  // No tool shows the flag: "exFAT file system specification", section 3.1.13.2.
  it('is dirty with VolumeDirty', () =>
    withTemporaryFolder((folder) => {
      const file = make(folder, { title: '', mkfs: ['mkfs.exfat'], sizeBytes: 16 * MIB });
      expect(isDirty(file)).toBe(false);
      patch(file, 106, [0x02]);
      expect(isDirty(file)).toBe(true);
    }));
});

describe('ntfs', () => {
  const NTFS: Case = {
    title: 'ntfs',
    mkfs: ['mkfs.ntfs', '-q', '-F', '-f', '-L', 'n'.repeat(120)],
    sizeBytes: 16 * MIB,
  };
  /** Exit statuses of ntfs-3g.probe(8). */
  const CLEAN = 0;
  const UNCLEAN_UNMOUNT = 15;
  const probeJournal = (file: string) => tryCommand('ntfs-3g.probe', ['--readwrite', file]).status;

  it('is dirty with the flag, as ntfsfix sets it', () =>
    withTemporaryFolder((folder) => {
      const file = make(folder, NTFS);
      expect([runCommand('ntfsinfo', ['-m', file]).includes('DIRTY'), isDirty(file)]).toEqual([false, false]);
      runCommand('ntfsfix', [file]);
      expect([runCommand('ntfsinfo', ['-m', '-f', file]).includes('DIRTY'), isDirty(file)]).toEqual([true, true]);
    }));

  it.each([
    { title: 'a client and not clean', client: 0, flags: 0, status: UNCLEAN_UNMOUNT },
    { title: 'a client, clean', client: 0, flags: 2, status: CLEAN },
    { title: 'no client', client: 0xffff, flags: 0, status: CLEAN },
  ])('with $title in its journal is what ntfs-3g says', ({ client, flags, status }) =>
    withTemporaryFolder((folder) => {
      const file = make(folder, NTFS);
      // An empty journal is all ones: nothing else is, for two pages.
      const journal = fs.readFileSync(file).indexOf(Buffer.alloc(8192, 0xff));
      expect(journal % 4096).toBe(0);
      patch(file, journal, restartPage(client, flags));
      patch(file, journal + 4096, restartPage(client, flags));
      expect(probeJournal(file)).toBe(status);
      expect(isDirty(file)).toBe(status === UNCLEAN_UNMOUNT);
    }),
  );

  it('has neither a label nor an answer where the record that tells them is torn', () =>
    withTemporaryFolder((folder) => {
      const file = make(folder, NTFS);
      const bytes = fs.readFileSync(file);
      const cluster = bytes.readUInt16LE(11) * bytes.readUInt8(13);
      const volume = Number(bytes.readBigUInt64LE(48)) * cluster + 3 * 1024;
      patch(file, volume + 1022, [0xaa, 0x55]);
      expect(probeFile(file)).toMatchObject({
        probe: { type: 'ntfs', label: undefined, isDirty: undefined },
        problems: [],
      });
    }));

  it('has its whole label, as ntfslabel says, also where a sector of the record ends within it', () =>
    withTemporaryFolder((folder) => {
      const file = make(folder, NTFS);
      expect(probeFile(file).probe?.label).toBe(runCommand('ntfslabel', [file]).trim());
    }));
});
