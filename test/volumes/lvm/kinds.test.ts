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
import { createLinear, type LvmWorld, report, withDisks, withLvm } from './lvm-tools.ts';

const MIB = 1024 * 1024;

interface VolumeText {
  readonly name: string;
  readonly segment: string;
  readonly status?: string;
}

const HIDDEN = '"READ", "WRITE"';

function linear(area: string, extent: number, extents = 2): string {
  return `extent_count = ${extents} type = "striped" stripe_count = 1 stripes = ["${area}", ${extent}]`;
}

/** Further volumes of a group whose volume `base` has the extents 0 to 3 of pv0, and what must be said of them. */
interface Kind {
  readonly kind: string;
  readonly volumes: readonly VolumeText[];
  /** Reasons of the visible volumes; undefined for what can be read. */
  readonly expected: Readonly<Record<string, string | undefined>>;
}

const KINDS: readonly Kind[] = [
  {
    kind: 'striped',
    volumes: [
      {
        name: 'fast',
        segment: 'extent_count = 4 type = "striped" stripe_count = 2 stripe_size = 128 stripes = ["pv0", 8, "pv1", 8]',
      },
    ],
    expected: { base: undefined, fast: 'it is striped over 2 areas' },
  },
  {
    kind: 'raid1',
    volumes: [
      {
        name: 'safe',
        segment:
          'extent_count = 2 type = "raid1" device_count = 2 region_size = 1024 ' +
          'raids = ["safe_rmeta_0", "safe_rimage_0", "safe_rmeta_1", "safe_rimage_1"]',
      },
      ...['safe_rmeta_0', 'safe_rimage_0', 'safe_rmeta_1', 'safe_rimage_1'].map((name, index) => ({
        name,
        status: HIDDEN,
        segment: linear(index < 2 ? 'pv0' : 'pv1', 10 + 2 * index, name.includes('meta') ? 1 : 2),
      })),
    ],
    expected: { base: undefined, safe: 'it is of the type raid1' },
  },
  {
    kind: 'mirror',
    volumes: [
      {
        name: 'twice',
        segment:
          'extent_count = 2 type = "mirror" mirror_count = 2 region_size = 1024 ' +
          'mirrors = ["twice_mimage_0", 0, "twice_mimage_1", 0]',
      },
      { name: 'twice_mimage_0', status: HIDDEN, segment: linear('pv0', 10) },
      { name: 'twice_mimage_1', status: HIDDEN, segment: linear('pv1', 10) },
    ],
    expected: { base: undefined, twice: 'it is of the type mirror' },
  },
  {
    kind: 'thin',
    volumes: [
      {
        name: 'pool',
        segment:
          'extent_count = 2 type = "thin-pool" metadata = "pool_tmeta" pool = "pool_tdata" transaction_id = 0 ' +
          'chunk_size = 128 discards = "passdown" zero_new_blocks = 1',
      },
      {
        name: 'small',
        segment: 'extent_count = 9 type = "thin" thin_pool = "pool" transaction_id = 0 device_id = 1',
      },
      { name: 'pool_tdata', status: HIDDEN, segment: linear('pv0', 10) },
      { name: 'pool_tmeta', status: HIDDEN, segment: linear('pv1', 10) },
    ],
    expected: { base: undefined, pool: 'it is of the type thin-pool', small: 'it is of the type thin' },
  },
  {
    kind: 'snapshot',
    volumes: [
      { name: 'before', segment: linear('pv1', 4) },
      {
        name: 'snapshot0',
        segment: 'extent_count = 4 type = "snapshot" chunk_size = 8 origin = "base" cow_store = "before"',
      },
    ],
    expected: { base: undefined, before: 'it is a snapshot of base' },
  },
  {
    kind: 'merging snapshot',
    volumes: [
      { name: 'before', status: HIDDEN, segment: linear('pv1', 4) },
      {
        name: 'snapshot0',
        segment: 'extent_count = 4 type = "snapshot" chunk_size = 8 origin = "base" merging_store = "before"',
      },
    ],
    expected: { base: 'a snapshot is being merged into it' },
  },
  {
    kind: 'pvmove',
    volumes: [
      { name: 'moved', status: '"READ", "WRITE", "VISIBLE", "LOCKED"', segment: linear('pvmove0', 0) },
      {
        name: 'pvmove0',
        status: '"READ", "WRITE", "PVMOVE", "LOCKED"',
        segment:
          'extent_count = 2 type = "mirror" mirror_count = 2 extents_moved = 0 region_size = 1024 ' +
          'mirrors = ["pv0", 10, "pv1", 10]',
      },
    ],
    expected: { base: undefined, moved: 'it lies on the logical volume pvmove0' },
  },
  {
    kind: 'zero and error',
    volumes: [
      { name: 'nothing', segment: 'extent_count = 2 type = "zero"' },
      { name: 'broken', segment: 'extent_count = 2 type = "error"' },
    ],
    expected: { base: undefined, nothing: 'it is of the type zero', broken: 'it is of the type error' },
  },
  {
    kind: 'mixed',
    volumes: [
      {
        name: 'both',
        segment:
          `${linear('pv0', 10)} } segment2 { start_extent = 2 extent_count = 2 type = "striped" stripe_count = 2 ` +
          'stripe_size = 128 stripes = ["pv0", 20, "pv1", 20]',
      },
    ],
    expected: { base: undefined, both: 'it is striped over 2 areas' },
  },
];

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

/** A group `vg` on two devices, with a volume `base`. */
function withGroup<Result>(body: (world: LvmWorld) => Result | Promise<Result>): Promise<Awaited<Result>> {
  return withLvm([32 * MIB, 32 * MIB], (world) => {
    world.run('vgcreate', '-s', '512k', 'vg', ...world.devices);
    createLinear(world, 'vg', 'base', 4, [world.devices[0] ?? '']);
    return body(world);
  });
}

/** Writes the metadata again, with a change. */
function restoreWith(world: LvmWorld, change: (text: string) => string): void {
  const file = `${world.folder}/metadata`;
  world.run('vgcfgbackup', '-f', file, 'vg');
  const text = fs
    .readFileSync(file, 'latin1')
    .replaceAll(/[ \t]*#.*$/gm, '')
    .replaceAll(/\n\n+/g, '\n');
  fs.writeFileSync(file, change(text));
  world.run('vgcfgrestore', '--force', '-f', file, 'vg');
}

function addVolumes(text: string, volumes: readonly VolumeText[]): string {
  const added = volumes.map(({ name, segment, status = '"READ", "WRITE", "VISIBLE"' }, index) => {
    const id = `AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA${String(index).padStart(2, '0')}`;
    const count = segment.split('start_extent').length;
    return `${name} { id = "${id}" status = [${status}] flags = [] segment_count = ${count} segment1 { start_extent = 0 ${segment} } }`;
  });
  const changed = text.replace('logical_volumes {', `logical_volumes {\n${added.join('\n')}`);
  expect(changed).not.toBe(text);
  return changed;
}

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
