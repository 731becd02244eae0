/** Groups that the tools of lvm2 made, against what the same tools report of them. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isLvmMember, readLvm } from '../../../src/volumes/lvm/lvm.ts';
import type { LvmResult } from '../../../src/volumes/lvm/lvm-result.ts';
import { Random } from '../../oracle/random.ts';
import { fillLinearVolumes, sha256OfDisk } from './fill.ts';
import { createLinear, type LvmWorld, report, withDisks, withLvm } from './lvm-tools.ts';

const MIB = 1024 * 1024;

/** Fills what is linear, and expects to read the same, with all that the tools report of groups and volumes. */
function expectSameAsTools(world: LvmWorld): LvmResult {
  const filled = fillLinearVolumes(world);
  const random = new Random(filled.length);
  return withDisks(world, (disks) => {
    const result = readLvm(disks);
    const linear = result.logicalVolumes.filter(({ disk }) => disk !== undefined);
    expect(
      linear
        .map(({ disk, name, volumeGroup, uuid, sizeBytes }) => ({
          name: `${volumeGroup}/${name}`,
          uuid,
          sizeBytes,
          sha256: disk && sha256OfDisk(disk, random),
        }))
        .sort(byName),
    ).toEqual(filled.sort(byName));
    expect(result.logicalVolumes.map(({ volumeGroup, name, uuid }) => `${volumeGroup}/${name} ${uuid}`).sort()).toEqual(
      report(world, 'lvs', 'vg_name,lv_name,lv_uuid')
        .map((row) => `${row.vg_name}/${row.lv_name} ${row.lv_uuid}`)
        .sort(),
    );
    expect(
      result.physicalVolumes.map(({ name, uuid, volumeGroup = '', sizeBytes }) => [name, uuid, volumeGroup, sizeBytes]),
    ).toEqual(
      report(world, 'pvs', 'pv_name,pv_uuid,vg_name,dev_size')
        .map((row) => [
          `disk${world.devices.indexOf(String(row.pv_name))}`,
          row.pv_uuid,
          row.vg_name,
          Number(row.dev_size),
        ])
        .sort((one, other) => String(one[0]).localeCompare(String(other[0]))),
    );
    return result;
  });
}

function byName(one: { name: string }, other: { name: string }): number {
  return one.name < other.name ? -1 : 1;
}

it('disks without a label are no members, and tell so', () =>
  withLvm([MIB], (world) =>
    withDisks(world, (disks) => {
      expect(disks.map(({ disk }) => isLvmMember(disk))).toEqual([false]);
      expect(readLvm(disks)).toEqual({
        physicalVolumes: [],
        logicalVolumes: [],
        problems: ['disk0: the LVM label is missing or cannot be read'],
      });
    }),
  ));

it.each([0, 1, 2, 3])('a label in sector %i makes a member', (sector) =>
  withLvm([4 * MIB], (world) => {
    world.run('pvcreate', '--labelsector', String(sector), world.devices[0] ?? '');
    withDisks(world, (disks) => expect(disks.map(({ disk }) => isLvmMember(disk))).toEqual([true]));
    expect(expectSameAsTools(world).problems).toEqual([]);
  }),
);

it('volumes over several physical volumes and segments have their bytes', () =>
  withLvm([16 * MIB, 12 * MIB, 20 * MIB], (world) => {
    world.run('vgcreate', '-s', '1m', 'vg-a', ...world.devices);
    createLinear(world, 'vg-a', 'root-lv', 5);
    createLinear(world, 'vg-a', '10.two+_x', 20);
    world.run('lvextend', '-l', '+3', 'vg-a/root-lv');
    const result = expectSameAsTools(world);
    expect(result.problems).toEqual([]);
    expect(result.logicalVolumes).toHaveLength(2);
  }));

it('two groups and a physical volume of none are told apart', () =>
  withLvm([8 * MIB, 8 * MIB, 8 * MIB], (world) => {
    const [first = '', second = '', third = ''] = world.devices;
    world.run('vgcreate', '-s', '512k', 'one', first);
    world.run('vgcreate', '-s', '1m', 'two', second);
    world.run('pvcreate', third);
    createLinear(world, 'one', 'data', 3);
    createLinear(world, 'two', 'data', 2);
    const result = expectSameAsTools(world);
    expect(result.problems).toEqual([]);
    expect(result.physicalVolumes.map(({ volumeGroup }) => volumeGroup)).toEqual(['one', 'two', undefined]);
  }));

it('a physical volume that changed its group, or left it, is where it is now', () =>
  withLvm([8 * MIB, 8 * MIB, 8 * MIB], (world) => {
    const [first = '', second = '', third = ''] = world.devices;
    world.run('vgcreate', '-s', '512k', 'one', first, second, third);
    createLinear(world, 'one', 'data', 3, [first]);
    createLinear(world, 'one', 'gone', 3, [second]);
    world.run('lvremove', '-y', 'one/gone');
    world.run('vgreduce', 'one', second, third);
    world.run('vgcreate', '-s', '512k', 'two', second);
    createLinear(world, 'two', 'other', 4);
    expect(expectSameAsTools(world).problems).toEqual([]);
    world.run('vgmerge', 'two', 'one');
    world.run('vgextend', 'two', third);
    world.run('lvrename', 'two', 'other', 'renamed');
    expect(expectSameAsTools(world).problems).toEqual([]);
  }));

it.each([0, 1, 2])('metadata is found with %i metadata areas on the second physical volume', (copies) =>
  withLvm([8 * MIB, 8 * MIB], (world) => {
    const [first = '', second = ''] = world.devices;
    world.run('pvcreate', '--metadatacopies', '1', first);
    world.run('pvcreate', '--metadatacopies', String(copies), second);
    world.run('vgcreate', '-s', '512k', 'vg', first, second);
    createLinear(world, 'vg', 'data', 20);
    expect(expectSameAsTools(world).problems).toEqual([]);
  }),
);

it('metadata areas that are ignored do not count', () =>
  withLvm([8 * MIB, 8 * MIB], (world) => {
    world.run('vgcreate', '-s', '512k', 'vg', ...world.devices);
    createLinear(world, 'vg', 'old', 3);
    world.run('vgchange', '--metadatacopies', '1', 'vg');
    world.run('lvremove', '-y', 'vg/old');
    createLinear(world, 'vg', 'new', 5);
    expect(report(world, 'vgs', 'vg_mda_count,vg_mda_used_count')).toEqual([
      { vg_mda_count: '2', vg_mda_used_count: '1' },
    ]);
    expect(expectSameAsTools(world).problems).toEqual([]);
  }));

it('a text that goes on at the start of its circular buffer is read', () =>
  withLvm([4 * MIB], (world) => {
    // The area is made larger than it was asked for, up to where the aligned data begins.
    world.run('pvcreate', '--metadatasize', '32k', '--dataalignment', '4k', world.devices[0] ?? '');
    world.run('vgcreate', '-s', '64k', 'vg', world.devices[0] ?? '');
    for (let index = 0; index < 8; index++) createLinear(world, 'vg', `lv${index}`, 2);
    let wrapped = 0;
    for (let change = 0; change < 40; change++) {
      world.run('lvrename', 'vg', change % 2 ? 'seven' : 'lv7', change % 2 ? 'lv7' : 'seven');
      if (!isWrapped(world.files[0] ?? '')) continue;
      wrapped += 1;
      expect(expectSameAsTools(world).problems).toEqual([]);
    }
    expect(wrapped).toBeGreaterThan(0);
  }));

/** The area begins at 4096, as in every physical volume that has only one; layout.h of lvm2. */
function isWrapped(file: string): boolean {
  const header = fs.readFileSync(file).subarray(4096, 4096 + 512);
  return header.readBigUInt64LE(40) + header.readBigUInt64LE(48) > header.readBigUInt64LE(32);
}

describe.each([1, 2, 3, 4])('a random history (seed %i)', (seed) => {
  it('gives the volumes that the tools report, and their bytes', () => {
    const random = new Random(seed);
    const sizes = Array.from({ length: 2 + random.below(3) }, () => (12 + random.below(12)) * MIB);
    return withLvm(sizes, (world) => {
      for (const device of world.devices) {
        const copies = device === world.devices[0] ? 1 + random.below(2) : random.below(3);
        world.run('pvcreate', '--metadatacopies', String(copies), '--metadatasize', '128k', device);
      }
      world.run('vgcreate', '-s', random.pick(['64k', '128k', '256k']), 'vg', ...world.devices.slice(0, 2));
      const succeeded = Array.from({ length: 60 }, (_, step) => changeAtRandom(world, random, step)).filter(Boolean);
      expect(succeeded.length).toBeGreaterThan(15);
      expect(expectSameAsTools(world).problems).toEqual([]);
    });
  });
});

/** True if the change was possible: the group may be full, or the volume there already. */
function changeAtRandom(world: LvmWorld, random: Random, step: number): boolean {
  const volume = `lv${random.below(6)}`;
  const [extents, device] = [String(1 + random.below(12)), random.pick(world.devices)];
  const create = ['lvcreate', '-an', '-Zn', '-Wn', '-y', '-l', extents];
  const command = random.pick([
    [...create, '-n', volume, 'vg'],
    [...create, '-n', `step${step}`, 'vg', device],
    ['lvextend', '-l', `+${extents}`, `vg/${volume}`],
    ['lvextend', '-l', `+${extents}`, `vg/${volume}`, device],
    ['lvreduce', '-f', '-l', `-${1 + random.below(5)}`, `vg/${volume}`],
    ['lvremove', '-y', `vg/${volume}`],
    ['vgextend', 'vg', device],
    ['vgreduce', 'vg', device],
  ]);
  return world.tryRun(...command).status === 0;
}
