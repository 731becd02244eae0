/** What has to be true of the tree: names, attributes, descriptions, and that nothing changes them. */

import fs from 'node:fs';
import { expect } from 'vitest';
import { type Adapter, type NodeStat, WRITE_ATTEMPTS } from './adapter.ts';
import { type Case, codeOf, disk, jsonOf } from './case-context.ts';
import { CROWDED_NAMES, type StateTruth } from './images.ts';

const NANOSECONDS = 1_000_000_000n;

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

export const TREE_CASES = {
  async 'the top has its five entries'({ files }) {
    expect([...(await files.list(''))].sort()).toEqual(['by-date', 'by-id', 'current', 'image.json', 'snapshots']);
  },

  async 'each snapshot has a folder, named by the rules of escape'({ files, states }) {
    const names = snapshotsOf(states).map(({ folder }) => folder.replace('snapshots/', ''));
    expect([...(await files.list('snapshots'))].sort()).toEqual([...names].sort());
  },

  async 'a state has a disk, its description, its volumes, and a VM state if it was saved with one'({ files, states }) {
    for (const { folder, vmState } of states) {
      const names = ['disk.raw', 'info.json', ...(vmState === undefined ? [] : ['vmstate.bin']), 'volumes'];
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
    expect((await files.stat('current')).linkCount).toBe(2 + 1);
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
} satisfies Record<string, Case>;
