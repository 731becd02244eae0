/** What people do with the files: compare, copy, archive and read them with ordinary tools. */

import fs from 'node:fs';
import path from 'node:path';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mapRawFile } from '../oracle/qemu.ts';
import type { TrueState } from '../oracle/truth.ts';
import { sha256OfFile } from '../support/hash.ts';
import { withMount } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { makeSampleImage, type SampleImage } from './sample-image.ts';
import { diskFile } from './state-files.ts';

const MIB = 1024 * 1024;
const FILE_SYSTEM_BLOCK_BYTES = 4096;

const folder = tmp.dirSync({ prefix: 'qcow2fs-tools-', unsafeCleanup: true });
let sample: SampleImage;

beforeAll(() => {
  sample = makeSampleImage(folder.name);
});

afterAll(() => folder.removeCallback());

/** Mounts the sample and runs `body` for each of its states, with the file that the mount shows. */
function forEachState(body: (file: string, state: TrueState) => void, options: readonly string[] = []): Promise<void> {
  return withMount(
    sample.path,
    (mountpoint) => {
      for (const state of sample.states) body(diskFile(mountpoint, state), state);
    },
    { options },
  );
}

/** Runs `body` with a path for a copy, and removes what it wrote there. */
function withCopy(body: (copy: string) => void): void {
  const copy = `${folder.name}/copy`;
  try {
    body(copy);
  } finally {
    fs.rmSync(copy, { recursive: true, force: true });
  }
}

describe('a state', () => {
  it('is equal to QEMU’s bytes for cmp, and unequal to another state', () =>
    withMount(sample.path, (mountpoint) => {
      const files = sample.states.map((state) => diskFile(mountpoint, state));
      for (const [index, { rawPath }] of sample.states.entries()) runCommand('cmp', [rawPath, files[index] ?? '']);
      expect(tryCommand('cmp', ['-s', files[1] ?? '', files[2] ?? '']).status).toBe(1);
    }));

  it('is copied sparsely by cp', () =>
    forEachState((file, { rawPath, title }) => {
      withCopy((copy) => {
        runCommand('cp', ['--sparse=auto', file, copy]);
        expectAllocatedLike(copy, file, title);
        expect(sha256OfFile(copy), title).toBe(sha256OfFile(rawPath));
      });
    }));

  it('is archived sparsely by tar', () =>
    forEachState((file, { rawPath, title }) => {
      withCopy((copy) => {
        fs.mkdirSync(copy);
        runCommand('tar', ['-C', path.dirname(file), '-S', '-cf', `${copy}/disk.tar`, 'disk.raw']);
        // The archive holds the data and a list of where it goes.
        expect(fs.statSync(`${copy}/disk.tar`).size, title).toBeLessThan(fs.statSync(file).blocks * 512 * 1.1 + 65536);
        runCommand('tar', ['-C', copy, '-xf', `${copy}/disk.tar`]);
        expectAllocatedLike(`${copy}/disk.raw`, file, title);
        expect(sha256OfFile(`${copy}/disk.raw`), title).toBe(sha256OfFile(rawPath));
      });
    }));

  it.each(['1M', '4k', '512'])('is read by dd past the page cache in blocks of %s', (blockSize) =>
    forEachState((file, { rawPath, title }) => {
      expect(sha256OfDirectRead(file, blockSize), title).toBe(sha256OfFile(rawPath));
    }),
  );

  it('is read the same when the mount keeps nothing in the page cache', () =>
    forEachState(
      (file, { rawPath, title }) => {
        expect(sha256OfFile(file), title).toBe(sha256OfFile(rawPath));
        expect(sha256OfDirectRead(file, '1M'), title).toBe(sha256OfFile(rawPath));
      },
      ['--direct-io'],
    ));

  it('has the same holes for two tools that look for them', () =>
    forEachState((file, { title }) => {
      const map = mapRawFile(file);
      const ofQemu = map.flatMap(({ data, start }) => [`${data ? 'DATA' : 'HOLE'}\t${start}`]);
      const { size } = fs.statSync(file);
      // The end of the file counts as a hole.
      const expected = map.at(-1)?.data ? [...ofQemu, `HOLE\t${size}`] : ofQemu;
      const output = runCommand('xfs_io', ['-r', '-c', 'seek -a -r 0', file]);
      expect(output.trim().split('\n').slice(1), title).toEqual(expected);
      expect(map.length, title).toBeGreaterThan(2);
    }));

  it('ends where it ends: reads across and behind the end are short', () =>
    forEachState((file, { rawPath, title }) => {
      const truth = fs.readFileSync(rawPath);
      const fd = fs.openSync(file, 'r');
      try {
        const buffer = Buffer.alloc(MIB);
        const count = fs.readSync(fd, buffer, 0, MIB, truth.length - 1000);
        expect(count, title).toBe(1000);
        expect(buffer.subarray(0, count).equals(truth.subarray(-1000)), title).toBe(true);
        expect(fs.readSync(fd, buffer, 0, MIB, truth.length), title).toBe(0);
        expect(fs.readSync(fd, buffer, 0, MIB, truth.length + 5 * MIB), title).toBe(0);
      } finally {
        fs.closeSync(fd);
      }
    }));

  it('is a raw disk for QEMU, as the backing file of a writable overlay', () =>
    withMount(sample.path, (mountpoint) => {
      const [, first] = sample.states;
      if (first === undefined) throw new Error('the sample has no snapshot');
      withCopy((copy) => {
        const backing = ['-b', diskFile(mountpoint, first), '-F', 'raw'];
        runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', ...backing, copy]);
        runCommand('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', copy, first.rawPath]);
      });
    }));
});

function expectAllocatedLike(copy: string, file: string, title: string): void {
  // Until the copy is written out, its blocks are only estimated.
  runCommand('sync', [copy]);
  const [copied, shown] = [fs.statSync(copy).blocks * 512, fs.statSync(file).blocks * 512];
  expect(copied, title).toBeLessThanOrEqual(shown * 1.1 + FILE_SYSTEM_BLOCK_BYTES);
  expect(copied, title).toBeGreaterThanOrEqual(shown * 0.9 - FILE_SYSTEM_BLOCK_BYTES);
}

function sha256OfDirectRead(file: string, blockSize: string): string {
  const script = 'set -o pipefail; dd if="$1" iflag=direct bs="$2" status=none | sha256sum';
  return runCommand('bash', ['-c', script, 'bash', file, blockSize]).split(' ')[0] ?? '';
}
