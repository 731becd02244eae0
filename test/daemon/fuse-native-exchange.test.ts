/** A tree that is exchanged while it is mounted through fuse-native: a snapshot is deleted, or made again under its name. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { mountTestFiles, waitUntil, withPlace } from './mounting.ts';

const DISK_BYTES = 4 * 1024 * 1024;
/** ESTALE, which Node.js has no name for. */
const STALE = /^Unknown system error -116\b/;

interface ExchangedTree {
  readonly mountpoint: string;
  readonly disk: string;
  /** Makes the snapshot anew, or removes it for 0. */
  exchange(generation: number): void;
}

function withExchangedTree(body: (tree: ExchangedTree) => void | Promise<void>): Promise<void> {
  return withPlace(async ({ folder, mountpoint }) => {
    const file = path.join(folder, 'exchanged');
    const exchange = (generation: number) => {
      // At once, so that the daemon never reads half of it.
      fs.writeFileSync(`${file}.new`, String(generation));
      fs.renameSync(`${file}.new`, file);
    };
    exchange(1);
    await mountTestFiles(mountpoint, { transport: 'fuse-native', imagePaths: [file] });
    await body({ mountpoint, disk: path.join(mountpoint, 'snapshot/disk.raw'), exchange });
  });
}

function withFile<Result>(file: string, body: (fd: number) => Result): Result {
  const fd = fs.openSync(file, 'r');
  try {
    return body(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function readText(fd: number, offset: number): string {
  const target = Buffer.alloc(8);
  return target.toString('latin1', 0, fs.readSync(fd, target, 0, target.length, offset));
}

test('an open file whose snapshot was made anew is stale, and the path leads to the new one', () =>
  withExchangedTree(({ disk, exchange }) =>
    withFile(disk, (old) => {
      expect(readText(old, 0)).toBe('11111111');
      exchange(2);
      expect(() => readText(old, 0)).toThrow(STALE);
      withFile(disk, (fresh) => {
        expect(readText(fresh, 0)).toBe('22222222');
        // Also where the old file was read already, and where only the new one has bytes.
        expect(readText(fresh, DISK_BYTES)).toBe('22');
        expect(() => readText(old, 0)).toThrow(STALE);
        expect(() => readText(old, DISK_BYTES / 2)).toThrow(STALE);
      });
    }),
  ));

test('all bytes and the size of a file that was just opened are of the new snapshot', () =>
  withExchangedTree(({ disk, exchange }) => {
    for (let generation = 1; generation <= 9; generation++) {
      exchange(generation);
      const contents = fs.readFileSync(disk);
      expect(contents.equals(Buffer.alloc(DISK_BYTES + generation, String(generation)))).toBe(true);
      expect(fs.statSync(disk).size).toBe(DISK_BYTES + generation);
    }
  }));

test('pages that a private mapping has read of the old file are not taken for the new one', () =>
  withExchangedTree(({ disk, exchange }) =>
    withFile(disk, () => {
      expect(mapped(disk, 'MAP_PRIVATE')).toBe('1');
      exchange(2);
      expect(withFile(disk, (fresh) => readText(fresh, 0))).toBe('22222222');
      expect(mapped(disk, 'MAP_PRIVATE')).toBe('2');
    }),
  ));

test('a file cannot be mapped to be shared', () =>
  withExchangedTree(({ disk }) => {
    expect(mapped(disk, 'MAP_SHARED')).toBe('ENODEV');
  }));

test('an open file of a snapshot that was deleted is stale, and its name is gone', () =>
  withExchangedTree(async ({ mountpoint, disk, exchange }) =>
    withFile(disk, (old) => {
      exchange(0);
      expect(() => readText(old, 0)).toThrow(STALE);
      expect(() => fs.openSync(disk, 'r')).toThrow('ENOENT');
      expect(fs.readdirSync(mountpoint)).toEqual(['other']);
    }),
  ));

test('a name that is gone is not found any more, and one that has come is', () =>
  withExchangedTree(async ({ disk, exchange }) => {
    const folder = path.dirname(disk);
    expect(fs.existsSync(folder)).toBe(true);
    exchange(0);
    await waitUntil(() => !fs.existsSync(folder));
    exchange(2);
    expect(fs.readdirSync(folder)).toEqual(['disk.raw']);
  }));

test('an open file is what it was while other things change', () =>
  withExchangedTree(({ mountpoint, exchange }) =>
    withFile(path.join(mountpoint, 'other'), (fd) => {
      exchange(2);
      expect(readText(fd, 0)).toBe('always t');
    }),
  ));

test('the end of a stale file cannot be asked for: it would be that of the new one', () =>
  withExchangedTree(({ disk, exchange, mountpoint }) => {
    // lseek(2) with SEEK_END, which Node.js has no function for.
    const script = `
      const libc = require('koffi').load(null);
      const lseek = libc.func('int64_t lseek(int, int64_t, int)');
      const fs = require('fs');
      const [disk, tag] = process.argv.slice(1);
      const fd = fs.openSync(disk, 'r');
      const before = lseek(fd, 0, 2);
      fs.renameSync(tag, tag.replace('.next', ''));
      const after = lseek(fd, 0, 2);
      console.log(Number(before), Number(after), require('koffi').errno() === 116);`;
    exchange(1);
    const next = path.join(path.dirname(mountpoint), 'exchanged.next');
    fs.writeFileSync(next, '2');
    expect(runCommand(process.execPath, ['-e', script, disk, next])).toBe(`${DISK_BYTES + 1} -1 true\n`);
  }));

test('a loop device over a file that is stale fails to read', () =>
  withExchangedTree(({ disk, exchange }) => {
    const device = runCommand('losetup', ['-f', '--show', '-r', disk]).trim();
    try {
      const read = () => tryCommand('dd', [`if=${device}`, 'iflag=direct', 'bs=4096', 'count=1', 'status=none']);
      expect(read().stdout).toBe('1'.repeat(4096));
      exchange(2);
      expect(read().stderr).toContain('Input/output error');
      expect(read().stdout).toBe('');
    } finally {
      runCommand('losetup', ['-d', device]);
    }
  }));

test('each snapshot that was made has an inode number of its own', () =>
  withExchangedTree(({ disk, exchange }) => {
    const numbers = Array.from({ length: 20 }, (_, index) => {
      exchange(index + 1);
      return fs.statSync(disk).ino;
    });
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(fs.statSync(disk).ino).toBe(numbers.at(-1));
  }));

/** The first byte of a mapping that a process of its own makes, or the name of the errno of mmap(2). */
function mapped(file: string, sharing: 'MAP_PRIVATE' | 'MAP_SHARED'): string {
  const script = `
    const koffi = require('koffi');
    const mmap = koffi.load(null).func('intptr_t mmap(void *, size_t, int, int, int, int64_t)');
    const fd = require('fs').openSync(process.argv[1], 'r');
    const flags = { MAP_SHARED: 1, MAP_PRIVATE: 2 };
    const address = mmap(null, 4096, 1, flags[process.argv[2]], fd, 0);
    const names = Object.entries(koffi.os.errno);
    const errno = koffi.errno();
    if (address === -1) console.log(names.find(([, number]) => number === errno)[0]);
    else console.log(String.fromCharCode(koffi.decode(BigInt(address), 'uint8_t')));`;
  return runCommand(process.execPath, ['-e', script, file, sharing]).trim();
}
