/** What has to be true of the contents of files: bytes, holes, and errors in place of bytes. */

import fs from 'node:fs';
import { expect } from 'vitest';
import { Random } from '../oracle/random.ts';
import { sha256OfFile } from '../support/hash.ts';
import type { ExtentStart } from './adapter.ts';
import { type Case, codeOf, disk, jsonOf } from './case-context.ts';
import { DAMAGED_OFFSET, type StateTruth } from './images.ts';

const MIB = 1024 * 1024;

export const CONTENTS_CASES = {
  async 'every state has the bytes that QEMU reads'({ files, states }) {
    for (const state of states) {
      expect(await files.sha256(disk(state)), state.folder).toBe(sha256OfFile(state.rawPath));
    }
  },

  async 'a VM state has the bytes that QEMU saved'({ files, states }) {
    for (const { folder, vmState } of states) {
      if (vmState === undefined) continue;
      const shown = await files.read(`${folder}/vmstate.bin`, 0, Math.min(vmState.length, MIB));
      expect(shown.equals(vmState.subarray(0, MIB))).toBe(true);
    }
  },

  async 'a read may begin and end anywhere, and is short only at the end'({ files, states }) {
    const random = new Random(7);
    for (const state of states.slice(0, 4)) {
      const truth = fs.readFileSync(state.rawPath);
      const ranges = [
        [0, 1],
        [truth.length - 1000, 5000],
        [truth.length, 100],
        [truth.length + 5 * MIB, 100],
        [12_345, MIB],
        ...Array.from({ length: 20 }, () => [random.below(truth.length), 1 + random.below(300_000)]),
      ] as const;
      for (const [offset = 0, length = 0] of ranges) {
        const shown = await files.read(disk(state), offset, length);
        const isRight = shown.equals(truth.subarray(offset, offset + length));
        expect(isRight, `${state.folder}: ${shown.length} of ${length} bytes at ${offset}`).toBe(true);
      }
    }
  },

  async 'reads side by side get what is theirs'({ files, states }) {
    const sums = await Promise.all(states.map((state) => files.sha256(disk(state))));
    expect(sums).toEqual(states.map(({ rawPath }) => sha256OfFile(rawPath)));
  },

  async 'an offset that no number has exactly is behind the end'({ files }) {
    for (const offset of ['9007199254740993', '4611686018427387904']) {
      expect(await files.read('current/disk.raw', offset, 100)).toHaveLength(0);
    }
  },

  async 'holes are where QEMU sees zeros'({ files, states }) {
    for (const state of states) {
      expect(wholeSectors(await files.extents(disk(state))), state.folder).toEqual(startsOf(state));
    }
  },

  async 'a seek finds the next data and the next hole'({ files, states }) {
    for (const state of states) {
      const starts = startsOf(state).map((start) => start.split(' ') as ['DATA' | 'HOLE', string]);
      for (const [index, [kind, at]] of starts.entries()) {
        const inside = Number(at) + 512;
        if (inside >= fs.statSync(state.rawPath).size) continue;
        const other = starts[index + 1];
        const whence = kind === 'DATA' ? 'data' : 'hole';
        expect(await files.seek(disk(state), whence, inside), `${state.folder} ${kind} ${inside}`).toBe(inside);
        if (other === undefined) continue;
        const otherWhence = kind === 'DATA' ? 'hole' : 'data';
        expect(await files.seek(disk(state), otherWhence, inside), state.folder).toBe(Number(other[1]));
      }
    }
  },

  async 'a seek from the end on finds nothing'({ files, states }) {
    for (const state of states) {
      const { size } = fs.statSync(state.rawPath);
      for (const offset of [size, size + MIB]) {
        expect(await files.seek(disk(state), 'data', offset), state.folder).toBeUndefined();
        expect(await files.seek(disk(state), 'hole', offset), state.folder).toBeUndefined();
      }
    }
  },

  'a cluster that is cut off is EIO, and only that one': ({ showing }) =>
    showing('cut', async (files) => {
      expect(await codeOf(files.read('current/disk.raw', DAMAGED_OFFSET, 4096))).toBe('EIO');
      expect(await files.read('current/disk.raw', 0, 4096)).toEqual(Buffer.alloc(4096, 1));
      expect(await codeOf(files.read('current/disk.raw', DAMAGED_OFFSET, 4096))).toBe('EIO');
      expect(await files.read('current/disk.raw', 3 * MIB, 4096)).toEqual(Buffer.alloc(4096));
    }),

  'snapshots of an image that has another time stamp than before are read, to the byte': ({ showing, states }) =>
    showing('copy', async (files, path) => {
      await files.list('');
      fs.utimesSync(path, 1, 1);
      for (const state of states.filter(({ snapshot }) => snapshot !== undefined)) {
        expect(await files.sha256(disk(state)), state.folder).toBe(sha256OfFile(state.rawPath));
      }
      expect(jsonOf(await files.readAll('image.json'))).toBeTypeOf('object');
    }),
} satisfies Record<string, Case>;

/** Where data and holes begin for QEMU. */
function startsOf({ map, rawPath }: StateTruth): ExtentStart[] {
  const starts: ExtentStart[] = [];
  for (const { data, start } of map) {
    const kind = data ? 'DATA' : 'HOLE';
    if (!starts.at(-1)?.startsWith(kind)) starts.push(`${kind} ${start}`);
  }
  if (starts.at(-1)?.startsWith('DATA')) starts.push(`HOLE ${fs.statSync(rawPath).size}`);
  return wholeSectors(starts);
}

/** QEMU rounds the end of the disk. */
function wholeSectors(starts: readonly ExtentStart[]): ExtentStart[] {
  return starts.filter((start) => Number(start.split(' ')[1]) % 512 === 0);
}
