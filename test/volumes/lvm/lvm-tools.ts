/** Physical volumes that the real tools of lvm2 write, in a world of their own: they see no other device of the machine. */

import fs from 'node:fs';
import { RawDisk } from '../../../src/raw/raw-disk.ts';
import { FileStorage, openFile } from '../../../src/storage/file-storage.ts';
import type { PhysicalVolume } from '../../../src/volumes/lvm/lvm-result.ts';
import { type CommandResult, runCommand, tryCommand } from '../../support/run-command.ts';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';

export interface LvmWorld {
  readonly folder: string;
  /** The files behind the devices. */
  readonly files: readonly string[];
  /** The devices, as the tools name them. */
  readonly devices: readonly string[];
  /** Runs `lvm`, and fails if it does. */
  readonly run: (...args: readonly string[]) => string;
  readonly tryRun: (...args: readonly string[]) => CommandResult;
}

/** One row of `lvs --segments`. */
export interface SegmentRow {
  readonly vg_name: string;
  readonly lv_name: string;
  readonly lv_uuid: string;
  readonly lv_size: string;
  readonly segtype: string;
  readonly seg_start: string;
  readonly seg_size: string;
  readonly seg_pe_ranges: string;
}

/** Without device-mapper, which a small kernel does not have: the metadata is the same. */
const CONFIG = (folder: string) => `
devices {
  dir = "${folder}/dev"
  scan = ["${folder}/dev"]
  use_devicesfile = 0
  hints = "none"
  obtain_device_list_from_udev = 0
  external_device_info_source = "none"
  md_component_detection = 0
}
global { use_lvmpolld = 0 use_lvmlockd = 0 event_activation = 0 locking_dir = "${folder}/lock" thin_check_executable = "" }
backup { backup = 0 archive = 0 backup_dir = "${folder}/backup" archive_dir = "${folder}/archive" }
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
`;

/** Runs `body` with an empty device for each size, and lets go of them afterwards. */
export async function withLvm<Result>(
  sizes: readonly number[],
  body: (world: LvmWorld) => Result | Promise<Result>,
): Promise<Awaited<Result>> {
  return withTemporaryFolder(async (folder) => {
    const loops: string[] = [];
    try {
      for (const name of ['dev', 'lock', 'backup', 'archive']) fs.mkdirSync(`${folder}/${name}`);
      fs.writeFileSync(`${folder}/lvm.conf`, CONFIG(folder));
      const files = sizes.map((_, index) => `${folder}/disk${index}.raw`);
      const devices = sizes.map((_, index) => `${folder}/dev/disk${index}`);
      for (const [index, file] of files.entries()) {
        fs.writeFileSync(file, '');
        fs.truncateSync(file, sizes[index]);
        const loop = runCommand('losetup', ['-f', '--show', file]).trim();
        loops.push(loop);
        fs.symlinkSync(loop, devices[index] ?? '');
      }
      const env = { LVM_SYSTEM_DIR: folder, LVM_SUPPRESS_FD_WARNINGS: '1', DM_DISABLE_UDEV: '1' };
      const withoutDriver = (args: readonly string[]) => [...args, '--driverloaded', 'n'];
      return await body({
        folder,
        files,
        devices,
        run: (...args) => runCommand('lvm', withoutDriver(args), { env }),
        tryRun: (...args) => tryCommand('lvm', withoutDriver(args), { env }),
      });
    } finally {
      for (const loop of loops) runCommand('losetup', ['-d', loop]);
    }
  });
}

/** Makes a linear volume without writing to it, as that takes device-mapper. */
export function createLinear(
  world: LvmWorld,
  group: string,
  name: string,
  extents: number,
  on: readonly string[] = [],
) {
  world.run('lvcreate', '-an', '-Zn', '-Wn', '-y', '-n', name, '-l', String(extents), group, ...on);
}

/** Rows of `pvs`, `vgs` or `lvs`, sizes in bytes. */
export function report(world: LvmWorld, command: 'pvs' | 'vgs' | 'lvs', fields: string, ...args: readonly string[]) {
  const options = ['--reportformat', 'json', '--units', 'b', '--nosuffix', '-o', fields, ...args];
  const parsed = JSON.parse(world.run(command, ...options)) as { report: Record<string, Record<string, string>[]>[] };
  // The rows are named after what a row is about: "lv", or "seg" with fields of segments.
  return parsed.report.flatMap((part) => Object.values(part).flat());
}

/** All segments that `lvs` shows. */
export function reportSegments(world: LvmWorld): SegmentRow[] {
  const fields = 'vg_name,lv_name,lv_uuid,lv_size,segtype,seg_start,seg_size,seg_pe_ranges';
  return report(world, 'lvs', fields, '--segments') as unknown as SegmentRow[];
}

/** Runs `body` with the devices as our disks. */
export function withDisks<Result>(world: LvmWorld, body: (disks: readonly PhysicalVolume[]) => Result): Result {
  const open = world.files.map((path) => openFile(path));
  try {
    return body(open.map((file, index) => ({ name: `disk${index}`, disk: new RawDisk(new FileStorage(file)) })));
  } finally {
    for (const { fd } of open) fs.closeSync(fd);
  }
}
