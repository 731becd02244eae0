/** Volume groups in a mount: the disks of one machine, and logical volumes that cannot be shown. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { withPlace } from '../daemon/mounting.ts';
import { createSnapshot } from '../oracle/qemu.ts';
import { sha256OfFile } from '../support/hash.ts';
import { QCOW2FS, withMount } from '../support/mounted-image.ts';
import { runCommand } from '../support/run-command.ts';
import { fillLinearVolumes } from '../volumes/lvm/fill.ts';
import { addVolumes, KINDS, restoreWith, withGroup } from '../volumes/lvm/kinds.ts';
import { createLinear, type LvmWorld, report } from '../volumes/lvm/lvm-tools.ts';
import { runSfdisk } from '../volumes/partitioned-disk.ts';
import { replaceDisk } from './partitioned-image.ts';

interface Info {
  readonly volumes: readonly { readonly name: string }[];
  readonly unsupportedVolumes: readonly { readonly name: string; readonly reason: string }[];
}

const STATES = ['current', 'snapshots/monday'];

function readInfo(tree: string, state: string): Info {
  return JSON.parse(fs.readFileSync(path.join(tree, state, 'info.json'), 'utf8'));
}

const unsupportedOf = (info: Info) =>
  Object.fromEntries(info.unsupportedVolumes.map(({ name, reason }) => [name, reason]));

it('two disks of a machine: what lies on one of them is shown, what needs both is listed with the missing one', () =>
  withGroup((world) =>
    withPlace(async ({ folder, mountpoint }) => {
      createLinear(world, 'vg', 'data', 4, [world.devices[1] ?? '']);
      createLinear(world, 'vg', 'across', 80);
      const filled = fillLinearVolumes(world);
      const images = world.files.map((file, index) => {
        const image = path.join(folder, `vm-${index}.qcow2`);
        replaceDisk(image, file);
        createSnapshot(image, 'monday');
        return image;
      });
      const missing = (index: number) => {
        const device = world.devices[index] ?? '';
        const [row] = report(world, 'pvs', 'pv_uuid', device);
        return `the physical volume ${row?.pv_uuid} (last seen as "${device}") is missing`;
      };
      runCommand(QCOW2FS, ['mount', ...images, mountpoint]);
      for (const state of STATES) {
        for (const [index, own] of ['base', 'data'].entries()) {
          const tree = path.join(mountpoint, `vm-${index}`);
          const info = readInfo(tree, state);
          expect(info.volumes.map(({ name }) => name)).toEqual(['disk', `vg-${own}`]);
          const reason = missing(1 - index);
          expect(unsupportedOf(info)).toEqual({ 'vg/across': reason, [`vg/${index === 0 ? 'data' : 'base'}`]: reason });
          const files = fs.readdirSync(path.join(tree, state, 'volumes')).filter((name) => name.endsWith('.raw'));
          expect(files.sort()).toEqual(['disk.raw', `vg-${own}.raw`]);
          const wanted = filled.find(({ name }) => name === `vg/${own}`)?.sha256;
          expect(sha256OfFile(path.join(tree, state, 'volumes', `vg-${own}.raw`))).toBe(wanted);
        }
      }
      runCommand(QCOW2FS, ['umount', mountpoint]);
    }),
  ));

/** Both physical volumes in partitions of one disk. */
function joinDisks(world: LvmWorld, raw: string): void {
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, 66 << 20);
  runSfdisk(raw, 'label: gpt\nsize=32MiB,type=lvm\nsize=32MiB,type=lvm\n');
  for (const [index, file] of world.files.entries()) {
    runCommand('dd', [
      ...[`if=${file}`, `of=${raw}`, 'bs=1M', `seek=${1 + 32 * index}`, 'conv=notrunc,sparse', 'status=none'],
    ]);
  }
}

it.each(KINDS.filter(({ kind }) => ['striped', 'raid1', 'thin'].includes(kind)))(
  '$kind: listed with its reason, beside what is shown',
  ({ volumes, expected }) =>
    withGroup((world) =>
      withPlace(async ({ folder }) => {
        const [base] = fillLinearVolumes(world);
        restoreWith(world, (text) => addVolumes(text, volumes));
        const [raw, image] = [path.join(folder, 'disk.raw'), path.join(folder, 'disk.qcow2')];
        joinDisks(world, raw);
        replaceDisk(image, raw);
        createSnapshot(image, 'monday');
        await withMount(image, (mountpoint) => {
          const reasons = Object.entries(expected).filter(([, reason]) => reason !== undefined);
          expect(reasons.length).toBeGreaterThan(0);
          for (const state of STATES) {
            const wanted = Object.fromEntries(reasons.map(([name, reason]) => [`vg/${name}`, reason]));
            expect(unsupportedOf(readInfo(mountpoint, state))).toEqual(wanted);
            const files = fs
              .readdirSync(path.join(mountpoint, state, 'volumes'))
              .filter((name) => name.endsWith('.raw'));
            expect(files.sort()).toEqual(['p1.raw', 'p2.raw', 'vg-base.raw']);
            expect(sha256OfFile(path.join(mountpoint, state, 'volumes/vg-base.raw'))).toBe(base?.sha256);
          }
        });
      }),
    ),
);
