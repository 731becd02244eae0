/** What has to be true of every transport: each operation, each error, each part of the tree. */

import fs from 'node:fs';
import { expect } from 'vitest';
import { Random } from '../oracle/random.ts';
import { sha256OfFile } from '../support/hash.ts';
import { type Adapter, type ExtentStart, type NodeStat, WRITE_ATTEMPTS } from './adapter.ts';
import { CROWDED_NAMES, DAMAGED_OFFSET, type StateTruth } from './images.ts';

const MIB = 1024 * 1024;
const NANOSECONDS = 1_000_000_000n;

export interface CaseContext {
  readonly files: Adapter;
  /** The current state first. */
  readonly states: readonly StateTruth[];
  readonly image: string;
  /** Another image, shown for as long as `body` runs. */
  showing(image: 'cut' | 'crowded' | 'copy', body: (files: Adapter, path: string) => Promise<void>): Promise<void>;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    const { code } = error as { code: string };
    // libuv has no name for it.
    return code === 'Unknown system error -116' ? 'ESTALE' : code;
  }
}

function disk({ folder }: StateTruth): string {
  return `${folder}/disk.raw`;
}

function jsonOf(bytes: Buffer): Record<string, unknown> {
  return JSON.parse(bytes.toString()) as Record<string, unknown>;
}

async function walk(files: Adapter, folder = ''): Promise<Map<string, NodeStat>> {
  const found = new Map<string, NodeStat>([[folder, await files.stat(folder)]]);
  for (const name of await files.list(folder)) {
    const path = folder === '' ? name : `${folder}/${name}`;
    const stat = await files.stat(path);
    if (stat.kind === 'directory') for (const [below, itsStat] of await walk(files, path)) found.set(below, itsStat);
    else found.set(path, stat);
  }
  return found;
}

const snapshotsOf = (states: readonly StateTruth[]) =>
  states.flatMap(({ folder, snapshot }) => (snapshot === undefined ? [] : [{ folder, snapshot }]));

export const CASES = {
  async 'the top has its five entries'({ files }) {
    expect([...(await files.list(''))].sort()).toEqual(['by-date', 'by-id', 'current', 'image.json', 'snapshots']);
  },

  async 'each snapshot has a folder, named by the rules of escape'({ files, states }) {
    const names = snapshotsOf(states).map(({ folder }) => folder.replace('snapshots/', ''));
    expect([...(await files.list('snapshots'))].sort()).toEqual([...names].sort());
  },

  async 'a state has a disk, its description, and a VM state if it was saved with one'({ files, states }) {
    for (const { folder, vmState } of states) {
      const names = ['disk.raw', 'info.json', ...(vmState === undefined ? [] : ['vmstate.bin'])];
      expect([...(await files.list(folder))].sort(), folder).toEqual(names);
    }
    expect(states.filter(({ vmState }) => vmState !== undefined)).toHaveLength(1);
  },

  async 'links by id and by date lead to the snapshots'({ files, states }) {
    const snapshots = snapshotsOf(states);
    expect([...(await files.list('by-id'))].sort()).toEqual(snapshots.map(({ snapshot }) => snapshot.id).sort());
    const dateOf = new Map<string, string>();
    for (const { folder, snapshot } of snapshots) {
      expect(await files.readlink(`by-id/${snapshot.id}`)).toBe(`../${folder}`);
      const iso = new Date(snapshot['date-sec'] * 1000).toISOString().replaceAll(':', '').replace('.000', '');
      const name = dateOf.has(iso) ? `${iso}%id=${snapshot.id}` : iso;
      dateOf.set(iso, name);
      expect(await files.readlink(`by-date/${name}`)).toBe(`../${folder}`);
    }
    expect(await files.list('by-date')).toHaveLength(snapshots.length);
  },

  'directories that do not fit into one reply are listed whole': ({ showing }) =>
    showing('crowded', async (files) => {
      expect([...(await files.list('snapshots'))].sort()).toEqual([...CROWDED_NAMES].sort());
      expect(await files.list('by-date')).toHaveLength(CROWDED_NAMES.length);
    }),

  async 'kinds, permissions and owner follow the image'({ files, image }) {
    const { uid, gid, mode } = fs.statSync(image);
    expect(mode & 0o777).toBe(0o644);
    for (const [path, stat] of await walk(files)) {
      const permissions = { directory: 0o555, file: 0o444, symlink: 0o777 }[stat.kind];
      expect({ permissions: stat.permissions, uid: stat.uid, gid: stat.gid }, path).toEqual({ permissions, uid, gid });
    }
  },

  async 'sizes are those of the states, and blocks are what is allocated'({ files, states }) {
    for (const state of states) {
      const { sizeBytes, allocatedBytes } = await files.stat(disk(state));
      expect(sizeBytes, state.folder).toBe(fs.statSync(state.rawPath).size);
      const expected = state.map.filter(({ data }) => data).reduce((sum, { length }) => sum + length, 0);
      // QEMU counts whole sectors, and the end of the disk may be in the middle of one.
      expect(Math.abs(allocatedBytes - expected), state.folder).toBeLessThanOrEqual(512);
      if (state.vmState !== undefined) {
        expect((await files.stat(`${state.folder}/vmstate.bin`)).sizeBytes).toBe(state.vmState.length);
      }
    }
  },

  async 'directories count their subdirectories as links'({ files, states }) {
    expect((await files.stat('')).linkCount).toBe(2 + 4);
    expect((await files.stat('snapshots')).linkCount).toBe(2 + states.length - 1);
    expect((await files.stat('current')).linkCount).toBe(2);
    expect((await files.stat('image.json')).linkCount).toBe(1);
  },

  async 'each node has an inode number of its own, which stays'({ files }) {
    const nodes = await walk(files);
    const numbers = [...nodes.values()].map(({ inode }) => inode);
    expect(new Set(numbers).size).toBe(numbers.length);
    const again = await walk(files);
    expect([...again].map(([path, { inode }]) => [path, inode])).toEqual(
      [...nodes].map(([path, { inode }]) => [path, inode]),
    );
    expect(nodes.get('')?.inode).toBe(1);
  },

  async 'times are those of the snapshots, to the second'({ files, states, image }) {
    for (const { folder, snapshot } of snapshotsOf(states)) {
      for (const path of [folder, `${folder}/disk.raw`, `${folder}/info.json`, `by-id/${snapshot.id}`]) {
        const { modifiedNs } = await files.stat(path);
        expect(BigInt(modifiedNs) / NANOSECONDS, path).toBe(BigInt(snapshot['date-sec']));
      }
    }
    const { modifiedNs } = await files.stat('current/disk.raw');
    expect(BigInt(modifiedNs) / NANOSECONDS).toBe(fs.statSync(image, { bigint: true }).mtimeNs / NANOSECONDS);
  },

  async 'times of snapshots are exact to the nanosecond'({ files, states }) {
    for (const { folder, snapshot } of snapshotsOf(states)) {
      const { modifiedNs } = await files.stat(`${folder}/disk.raw`);
      expect(BigInt(modifiedNs) % NANOSECONDS, folder).toBe(BigInt(snapshot['date-nsec']));
    }
  },

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

  async 'image.json and info.json say what qemu-img info says'({ files, states }) {
    expect(jsonOf(await files.readAll('image.json'))).toBeTypeOf('object');
    for (const { folder, snapshot, rawPath } of states) {
      const info = jsonOf(await files.readAll(`${folder}/info.json`));
      expect(info.virtualSizeBytes, folder).toBe(fs.statSync(rawPath).size);
      expect([info.id, info.name], folder).toEqual([snapshot?.id, snapshot?.name]);
      expect((await files.stat(`${folder}/info.json`)).sizeBytes).toBe(
        (await files.readAll(`${folder}/info.json`)).length,
      );
    }
  },

  async 'extended attributes tell the exact name, the id and the state'({ files, states }) {
    for (const { folder, snapshot } of states) {
      const expected: Record<string, string> =
        snapshot === undefined
          ? { 'user.qcow2.state': 'current' }
          : {
              'user.qcow2.name': snapshot.name,
              'user.qcow2.id': snapshot.id,
              'user.qcow2.state': `id:${snapshot.id}`,
            };
      for (const path of [folder, `${folder}/disk.raw`, `${folder}/info.json`]) {
        expect(await files.xattrs(path), path).toEqual(expected);
      }
      expect(await files.xattr(folder, 'user.qcow2.state')).toBe(expected['user.qcow2.state']);
    }
    expect(await files.xattrs('image.json')).toEqual({});
  },

  async 'an attribute that does not exist is ENODATA'({ files }) {
    expect(await codeOf(files.xattr('current/disk.raw', 'user.nothing'))).toBe('ENODATA');
    expect(await codeOf(files.xattr('image.json', 'user.qcow2.state'))).toBe('ENODATA');
  },

  async 'the file system is as large as its states, and full'({ files, states }) {
    const { totalBytes, freeBytes, nodeCount } = await files.statistics();
    const sum = states.reduce((total, { rawPath }) => total + fs.statSync(rawPath).size, 0);
    expect(totalBytes - sum).toBeGreaterThanOrEqual(0);
    expect(totalBytes - sum).toBeLessThan(4096);
    expect(freeBytes).toBe(0);
    expect(nodeCount).toBeGreaterThan(states.length * 3);
  },

  async 'what does not exist is ENOENT, and nothing is below a file'({ files }) {
    for (const path of ['nothing', 'snapshots/nothing', 'by-id/99', 'current/vmstate.bin', 'x'.repeat(255)]) {
      expect(await codeOf(files.stat(path)), path).toBe('ENOENT');
    }
    expect(await codeOf(files.stat('image.json/nothing'))).toBe('ENOTDIR');
    expect(await codeOf(files.list('nothing'))).toBe('ENOENT');
  },

  async 'nothing can be written'({ files }) {
    for (const attempt of WRITE_ATTEMPTS) {
      expect(await codeOf(files.tryToWrite(attempt)), attempt).toBe('EROFS');
    }
  },

  'a cluster that is cut off is EIO, and only that one': ({ showing }) =>
    showing('cut', async (files) => {
      expect(await codeOf(files.read('current/disk.raw', DAMAGED_OFFSET, 4096))).toBe('EIO');
      expect(await files.read('current/disk.raw', 0, 4096)).toEqual(Buffer.alloc(4096, 1));
      expect(await codeOf(files.read('current/disk.raw', DAMAGED_OFFSET, 4096))).toBe('EIO');
      expect(await files.read('current/disk.raw', 3 * MIB, 4096)).toEqual(Buffer.alloc(4096));
    }),

  'an image that was written to is ESTALE, and its description stays': ({ showing }) =>
    showing('copy', async (files, path) => {
      await files.list('');
      fs.utimesSync(path, 1, 1);
      expect(await codeOf(files.read('current/disk.raw', 0, 4096))).toBe('ESTALE');
      expect(await codeOf(files.sha256('snapshots/first/disk.raw'))).toBe('ESTALE');
      expect(jsonOf(await files.readAll('image.json'))).toBeTypeOf('object');
    }),
} satisfies Record<string, (context: CaseContext) => Promise<void>>;

export type CaseName = keyof typeof CASES;

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
