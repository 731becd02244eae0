/** Volume groups with kinds of logical volumes that need device-mapper to be made: their metadata is restored with vgcfgrestore. */

import fs from 'node:fs';
import { createLinear, type LvmWorld, withLvm } from './lvm-tools.ts';

const MIB = 1024 * 1024;

/** A logical volume in the text of the metadata. */
export interface VolumeText {
  readonly name: string;
  readonly segment: string;
  readonly status?: string;
}

const HIDDEN = '"READ", "WRITE"';

function linear(area: string, extent: number, extents = 2): string {
  return `extent_count = ${extents} type = "striped" stripe_count = 1 stripes = ["${area}", ${extent}]`;
}

/** Further volumes of a group whose volume `base` has the extents 0 to 3 of pv0, and what must be said of them. */
export interface Kind {
  readonly kind: string;
  readonly volumes: readonly VolumeText[];
  /** Reasons of the visible volumes; undefined for what can be read. */
  readonly expected: Readonly<Record<string, string | undefined>>;
}

export const KINDS: readonly Kind[] = [
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

/** Runs `body` with a group `vg` on two devices, with a volume `base`. */
export function withGroup<Result>(body: (world: LvmWorld) => Result | Promise<Result>): Promise<Awaited<Result>> {
  return withLvm([32 * MIB, 32 * MIB], (world) => {
    world.run('vgcreate', '-s', '512k', 'vg', ...world.devices);
    createLinear(world, 'vg', 'base', 4, [world.devices[0] ?? '']);
    return body(world);
  });
}

/** Writes the metadata again, with a change. */
export function restoreWith(world: LvmWorld, change: (text: string) => string): void {
  const file = `${world.folder}/metadata`;
  world.run('vgcfgbackup', '-f', file, 'vg');
  const text = fs
    .readFileSync(file, 'latin1')
    .replaceAll(/[ \t]*#.*$/gm, '')
    .replaceAll(/\n\n+/g, '\n');
  fs.writeFileSync(file, change(text));
  world.run('vgcfgrestore', '--force', '-f', file, 'vg');
}

/** To be given to `restoreWith`. */
export function addVolumes(text: string, volumes: readonly VolumeText[]): string {
  const added = volumes.map(({ name, segment, status = '"READ", "WRITE", "VISIBLE"' }, index) => {
    const id = `AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA${String(index).padStart(2, '0')}`;
    const count = segment.split('start_extent').length;
    return `${name} { id = "${id}" status = [${status}] flags = [] segment_count = ${count} segment1 { start_extent = 0 ${segment} } }`;
  });
  const changed = text.replace('logical_volumes {', `logical_volumes {\n${added.join('\n')}`);
  if (changed === text) throw new Error('the metadata has no place for logical volumes');
  return changed;
}
