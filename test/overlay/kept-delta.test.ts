/** Deltas that are kept: what is in the file, who may have it, and what is left after a kill. */

import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import { closeDelta, openKeptDelta } from '../../src/overlay/open-delta.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { BaseDisk } from './base-disk.ts';
// @ts-expect-error: shared with a program that runs as it is.
import { blocksOfRound } from './kept-rounds.mjs';
import { overlayOf, readBytes } from './overlay-place.ts';

const BLOCK = 4096;
const MIB = 2 ** 20;
const PROGRAM = path.join(import.meta.dirname, 'kept-program.mjs');

const OPTIONS = {
  sizeBytes: MIB,
  maxBytes: 2 ** 40,
  imagePath: '/images/a.qcow2',
  stateText: 'snapshot "monday"',
  identity: 'id of monday',
};

async function openError(file: string, options: Partial<typeof OPTIONS> = {}): Promise<Qcow2fsError> {
  const opened = openKeptDelta(file, { ...OPTIONS, ...options });
  return opened.then(
    (memory) => {
      closeDelta(memory);
      throw new Error('it was opened');
    },
    (error: unknown) => {
      if (error instanceof Qcow2fsError) return error;
      throw error;
    },
  );
}

/** Makes a delta with a block of ones in it. */
async function makeDelta(file: string): Promise<void> {
  const memory = await openKeptDelta(file, OPTIONS);
  overlayOf(new BaseDisk(MIB), memory).disk.writeAt(Buffer.alloc(BLOCK, 1), 0, 20 * BLOCK, BLOCK);
  closeDelta(memory);
}

function patch(file: string, offset: number, bytes: Buffer): void {
  const fd = fs.openSync(file, 'r+');
  fs.writeSync(fd, bytes, 0, bytes.length, offset);
  fs.closeSync(fd);
}

test('the file is as its format says', () =>
  withTemporaryFolder(async (folder) => {
    await makeDelta(`${folder}/delta`);
    const bytes = fs.readFileSync(`${folder}/delta`);
    expect(bytes.subarray(0, 36).toString('hex')).toBe(
      // magic, version, block size, 1 MiB, length of the text
      '71636f77326673' + '2064656c74610a0000' + '01000000' + '00100000' + '0000100000000000' + '53000000',
    );
    expect(JSON.parse(bytes.toString('utf8', 40, 40 + 0x53))).toEqual({
      image: '/images/a.qcow2',
      state: 'snapshot "monday"',
      identity: 'id of monday',
    });
    const header = Buffer.from(bytes.subarray(0, 4096));
    header.writeUInt32LE(0, 36);
    // gzip ends with the CRC-32 and the length of what it has packed.
    const crc = gzipSync(header).readUInt32LE(gzipSync(header).length - 8);
    expect(bytes.readUInt32LE(36)).toBe(crc);
    // One page, whose blocks differ: block 20 is in the data (3 << 8 in the second word).
    expect([...bytes.subarray(4096, 4098)]).toEqual([2, 0]);
    expect(bytes.subarray(8192, 8204).toString('hex')).toBe('000000000003000000000000');
    expect(bytes.length).toBe(12_288 + MIB);
    expect(bytes.subarray(12_288 + 20 * BLOCK, 12_288 + 21 * BLOCK)).toEqual(Buffer.alloc(BLOCK, 1));
    expect(fs.statSync(`${folder}/delta`).mode & 0o777).toBe(0o600);
  }));

describe('a file is refused, and not touched', () => {
  test.each([
    { what: 'that is something else', make: (file: string) => fs.writeFileSync(file, Buffer.alloc(20_000, 7)) },
    { what: 'that is empty', make: (file: string) => fs.writeFileSync(file, '') },
    { what: 'that is shorter than a header', make: (file: string) => fs.writeFileSync(file, 'qcow2fs delta\n\0\0') },
  ])('$what', ({ make }) =>
    withTemporaryFolder(async (folder) => {
      const file = `${folder}/file`;
      make(file);
      const before = fs.readFileSync(file);
      const error = await openError(file);
      expect(error.code).toBe('REFUSED');
      expect(error.message).toContain(`${file} is not a delta of qcow2fs`);
      expect(fs.readFileSync(file).equals(before)).toBe(true);
    }),
  );

  test('that is no regular file', () =>
    withTemporaryFolder(async (folder) => {
      runCommand('mkfifo', [`${folder}/fifo`]);
      for (const file of [folder, `${folder}/fifo`, '/dev/null']) {
        expect(await openError(file)).toMatchObject({ code: 'REFUSED', message: expect.stringContaining(file) });
      }
    }));

  test.each([
    { what: 'of another state', options: { identity: 'id of tuesday', stateText: 'snapshot "tuesday"' } },
    { what: 'of a disk of another size', options: { sizeBytes: MIB + BLOCK } },
  ])('that is the delta $what', ({ options }) =>
    withTemporaryFolder(async (folder) => {
      await makeDelta(`${folder}/delta`);
      const before = fs.readFileSync(`${folder}/delta`);
      const error = await openError(`${folder}/delta`, options);
      expect(error.code).toBe('REFUSED');
      expect(error.message).toContain('is the delta of snapshot "monday" of /images/a.qcow2 (1048576 bytes), not of');
      expect(error.message).toContain(`${{ ...OPTIONS, ...options }.stateText} of /images/a.qcow2`);
      expect(fs.readFileSync(`${folder}/delta`).equals(before)).toBe(true);
    }),
  );

  test.each([
    { what: 'damaged header', offset: 45, bytes: [0], code: 'REFUSED', text: 'checksum' },
    { what: 'damaged checksum', offset: 36, bytes: [1, 2, 3, 4], code: 'REFUSED', text: 'checksum' },
    { what: 'later version', offset: 16, bytes: [2], code: 'REFUSED', text: 'version 2' },
    {
      what: 'kind of a page that does not exist',
      offset: 4096,
      bytes: [3],
      code: 'DAMAGED',
      text: 'kind of page 0 is 3',
    },
    {
      what: 'state of a block that does not exist',
      offset: 8192,
      bytes: [2],
      code: 'DAMAGED',
      text: 'page 0 of its map',
    },
  ])('with a $what', ({ offset, bytes, code, text }) =>
    withTemporaryFolder(async (folder) => {
      await makeDelta(`${folder}/delta`);
      patch(`${folder}/delta`, offset, Buffer.from(bytes));
      expect(await openError(`${folder}/delta`)).toMatchObject({ code, message: expect.stringContaining(text) });
    }),
  );

  test('that was cut off', () =>
    withTemporaryFolder(async (folder) => {
      await makeDelta(`${folder}/delta`);
      fs.truncateSync(`${folder}/delta`, MIB);
      expect(await openError(`${folder}/delta`)).toMatchObject({ code: 'DAMAGED' });
    }));
});

test('a delta has one user at a time, who may be in this process or another one, and may be killed', () =>
  withTemporaryFolder(async (folder) => {
    const file = `${folder}/delta`;
    const memory = await openKeptDelta(file, OPTIONS);
    expect((await openError(file)).code).toBe('BUSY');
    expect(tryCommand('flock', ['-n', file, 'true']).status).toBe(1);
    closeDelta(memory);
    const other = spawn('flock', ['-n', file, 'sleep', '60'], { stdio: 'ignore', detached: true });
    while (tryCommand('flock', ['-n', file, 'true']).status === 0) await sleep(5);
    expect((await openError(file)).message).toContain(`${file} is in use by another qcow2fs`);
    process.kill(-(other.pid ?? 0), 'SIGKILL');
    await new Promise((resolve) => other.once('close', resolve));
    await makeDelta(file);
  }));

test('names that are long are shortened, and the identity is not', () =>
  withTemporaryFolder(async (folder) => {
    const options = {
      imagePath: `/${'ä/"'.repeat(2000)}`,
      stateText: '\u0001'.repeat(3000),
      identity: 'i'.repeat(1024),
    };
    closeDelta(await openKeptDelta(`${folder}/delta`, { ...OPTIONS, ...options }));
    closeDelta(await openKeptDelta(`${folder}/delta`, { ...OPTIONS, ...options }));
    const error = await openError(`${folder}/delta`, { ...options, identity: `${'i'.repeat(1023)}j` });
    expect(error.code).toBe('REFUSED');
    expect((await openError(`${folder}/delta`, { identity: 'i'.repeat(1025) })).code).toBe('INTERNAL');
  }));

test('a file that cannot be made is told by its name', () =>
  withTemporaryFolder(async (folder) => {
    expect(await openError(`${folder}/none/delta`)).toMatchObject({
      code: 'IO',
      message: expect.stringContaining(`${folder}/none/delta`),
    });
  }));

/** Starts the program, and kills it `afterMs` after its first sync; the last round that it has told to be synced. */
async function runAndKill(file: string, sizeBytes: number, firstRound: number, afterMs: number): Promise<number> {
  const child: ChildProcess = spawn('node', [PROGRAM, file, String(sizeBytes), String(firstRound)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  const closed = new Promise((resolve) => child.once('close', resolve));
  const first = new Promise((resolve) =>
    child.stdout?.on('data', (data) => {
      output += data;
      resolve(undefined);
    }),
  );
  await Promise.race([first, closed]);
  await sleep(afterMs);
  child.kill('SIGKILL');
  await closed;
  const rounds = output.split('\n').slice(0, -1);
  return Number(rounds.at(-1));
}

test('all that was synced is there after a kill at any moment, and each block is whole', () =>
  withTemporaryFolder(async (folder) => {
    // Several pages of the map, each of 64 MiB.
    const sizeBytes = 300 * MIB;
    const file = `${folder}/delta`;
    const base = new BaseDisk(sizeBytes);
    base.bytes.fill(0xbb);
    /** For each block that was written: the rounds, the last one first, down to the last that was synced. */
    const possible = new Map<number, number[]>();
    let round = 1;
    for (let kill = 0; kill < 25; kill++) {
      const synced = await runAndKill(file, sizeBytes, round, (kill * 7) % 40);
      expect(synced).toBeGreaterThanOrEqual(round);
      for (; round <= synced; round++) {
        for (const block of blocksOfRound(round, sizeBytes / BLOCK) as number[]) possible.set(block, [round]);
      }
      // The next one may have begun.
      for (const block of blocksOfRound(round, sizeBytes / BLOCK) as number[]) {
        possible.set(block, [round, ...(possible.get(block) ?? [0])]);
      }
      round += 1;
      const memory = await openKeptDelta(file, {
        ...OPTIONS,
        ...{ sizeBytes, identity: 'kill' },
      });
      const { disk } = overlayOf(base, memory);
      for (const [block, rounds] of possible) {
        const bytes = readBytes(disk, block * BLOCK, BLOCK);
        expect(bytes.equals(Buffer.alloc(BLOCK, bytes[0]))).toBe(true);
        expect(rounds.map(byteOf)).toContain(bytes[0]);
      }
      closeDelta(memory);
    }
  }));

/** What a block of a round is full of; 0 stands for no round at all. */
function byteOf(round: number): number {
  if (round === 0) return 0xbb;
  return round % 5 === 0 ? 0 : round % 251;
}
