/**
 * Kinds of logical volumes that need device-mapper to be made: their metadata is restored with vgcfgrestore, which checks
 * it, and is read from the disk as any other.
 */

import fs from 'node:fs';
import { expect, it } from 'vitest';
import type { Disk } from '../../../src/disk/disk.ts';
import { RawDisk } from '../../../src/raw/raw-disk.ts';
import { BufferStorage } from '../../../src/storage/buffer-storage.ts';
import { readLvm } from '../../../src/volumes/lvm/lvm.ts';
import type { LogicalVolume } from '../../../src/volumes/lvm/lvm-result.ts';
import { Random } from '../../oracle/random.ts';
import { fillLinearVolumes, sha256OfDisk } from './fill.ts';
import { addVolumes, KINDS, restoreWith, withGroup } from './kinds.ts';
import { createLinear, type LvmWorld, report, withDisks } from './lvm-tools.ts';

it.each(KINDS)('$kind: what cannot be read is listed with its reason', ({ volumes, expected }) =>
  withGroup((world) => {
    restoreWith(world, (text) => addVolumes(text, volumes));
    expect(readVolumes(world)).toEqual(expected);
    expect(
      report(world, 'lvs', 'lv_name')
        .map(({ lv_name }) => lv_name)
        .sort(),
    ).toEqual(Object.keys(expected).sort());
  }),
);

it('the origin of a snapshot has the bytes of its own extents', () =>
  withGroup((world) => {
    const [base] = fillLinearVolumes(world);
    restoreWith(world, (text) => addVolumes(text, KINDS.find(({ kind }) => kind === 'snapshot')?.volumes ?? []));
    const disk = withDisks(world, (disks) => {
      const found = readLvm(disks).logicalVolumes.find(({ name }) => name === 'base')?.disk;
      return found && sha256OfDisk(found, new Random(1));
    });
    expect(disk).toBe(base?.sha256);
  }));

it('a volume on a missing physical volume is listed with the reason, and the others are readable', () =>
  withGroup((world) => {
    createLinear(world, 'vg', 'elsewhere', 2, [world.devices[1] ?? '']);
    createLinear(world, 'vg', 'over-both', 80);
    const [missing] = report(world, 'pvs', 'pv_uuid', world.devices[1] ?? '');
    const reason = `the physical volume ${missing?.pv_uuid} (last seen as "${world.devices[1]}") is missing`;
    const { logicalVolumes, problems } = withDisks(world, (disks) => readLvm(disks.slice(0, 1)));
    expect(reasonsOf(logicalVolumes)).toEqual({ base: undefined, elsewhere: reason, 'over-both': reason });
    expect(problems).toEqual([]);
  }));

it('a volume on a physical volume that is there twice is listed with the reason', () =>
  withGroup((world) => {
    const { logicalVolumes } = withDisks(world, (disks) => {
      const [first] = disks;
      return readLvm(first ? [...disks, { ...first, name: 'copy' }] : disks);
    });
    expect(reasonsOf(logicalVolumes).base).toMatch(/is there more than once, as disk0 and copy$/);
  }));

it('a physical volume that was missing during a change is not read, as in lvm2', () =>
  withGroup((world) => {
    const second = world.devices[1] ?? '';
    createLinear(world, 'vg', 'elsewhere', 2, [second]);
    const loop = fs.readlinkSync(second);
    fs.unlinkSync(second);
    world.run('lvchange', '--addtag', 'changed', 'vg/base');
    fs.symlinkSync(loop, second);
    expect(report(world, 'lvs', 'lv_name,lv_health_status')).toEqual([
      { lv_name: 'base', lv_health_status: '' },
      { lv_name: 'elsewhere', lv_health_status: 'partial' },
    ]);
    const { logicalVolumes, problems } = withDisks(world, readLvm);
    expect(reasonsOf(logicalVolumes)).toEqual({
      base: undefined,
      elsewhere: expect.stringMatching(/was missing when its group was changed, so what is on it may be old$/),
    });
    expect(problems).toEqual(['disk1: its metadata of the volume group vg is old (seqno 3, newest 4) and is not used']);
  }));

it('a physical volume that was away during changes is told, and the newer metadata is used', () =>
  withGroup((world) => {
    const second = world.files[1] ?? '';
    const before = fs.readFileSync(second);
    createLinear(world, 'vg', 'newer', 3, [world.devices[0] ?? '']);
    fs.writeFileSync(second, before);
    const { logicalVolumes, problems } = withDisks(world, readLvm);
    expect(reasonsOf(logicalVolumes)).toEqual({ base: undefined, newer: undefined });
    expect(problems).toEqual(['disk1: its metadata of the volume group vg is old (seqno 2, newest 3) and is not used']);
  }));

it('a physical volume that its group gave up is in none', () =>
  withGroup((world) => {
    const second = world.files[1] ?? '';
    const before = fs.readFileSync(second);
    world.run('vgreduce', 'vg', world.devices[1] ?? '');
    fs.writeFileSync(second, before);
    const { physicalVolumes, problems } = withDisks(world, readLvm);
    expect(physicalVolumes.map(({ volumeGroup }) => volumeGroup)).toEqual(['vg', undefined]);
    expect(problems).toEqual(['disk1: its metadata of the volume group vg is old (seqno 2, newest 3) and is not used']);
  }));

it('two groups of one name are both shown', () =>
  withGroup(async (world) => {
    const others = await withGroup((other) => withDisks(other, (disks) => disks.map(({ disk }) => copyOf(disk))));
    const { logicalVolumes, problems } = withDisks(world, (disks) => {
      const more = others.map((disk, index) => ({ name: `other${index}`, disk }));
      return readLvm([...disks, ...more]);
    });
    expect(logicalVolumes.map(({ volumeGroup, name, unsupported }) => [volumeGroup, name, unsupported])).toEqual([
      ['vg', 'base', undefined],
      ['vg', 'base', undefined],
    ]);
    expect(problems).toEqual([]);
  }));

function readVolumes(world: LvmWorld): Record<string, string | undefined> {
  const { logicalVolumes, problems } = withDisks(world, readLvm);
  expect(problems).toEqual([]);
  return reasonsOf(logicalVolumes);
}

function reasonsOf(volumes: readonly LogicalVolume[]): Record<string, string | undefined> {
  for (const { disk, unsupported } of volumes) expect(disk === undefined).toBe(unsupported !== undefined);
  return Object.fromEntries(volumes.map(({ name, unsupported }) => [name, unsupported]));
}

function copyOf(disk: Disk): Disk {
  const bytes = Buffer.alloc(disk.sizeBytes);
  disk.readAt(bytes, 0, 0, bytes.length);
  return new RawDisk(new BufferStorage(bytes));
}
