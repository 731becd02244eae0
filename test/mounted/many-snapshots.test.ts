/** As many snapshots as QEMU allows, and tables as long as it allows, in little memory. */

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { daemonOf } from '../daemon/mounting.ts';
import { encodeSnapshotEntry, u64 } from '../fixtures/image-builder.ts';
import { QCOW2FS, withMount } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const PEAK_MEMORY = fileURLToPath(new URL('../support/peak-memory.mjs', import.meta.url));
const CLUSTER = 65536;
/** QCOW_MAX_SNAPSHOTS. */
const COUNT = 65536;
const NAME_BYTES = 40;
/** 63 MiB of it are Node.js; the daemon has 84 MiB for an image without snapshots. */
const MAX_RESIDENT_KIB = 128 * 1024;

const nameOf = (index: number) => `nightly backup ${index}`.padEnd(NAME_BYTES, '.');

/** An empty disk by QEMU, with a table of snapshots of it behind its end. */
function makeImage(folder: string): string {
  const image = `${folder}/many.qcow2`;
  runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1G']);
  const header = fs.readFileSync(image).subarray(0, 112);
  const [l1Size, l1TableOffset] = [header.readUInt32BE(36), header.readBigUInt64BE(40)];
  const extra = Buffer.concat([u64(0n), u64(1n << 30n), u64(0xffff_ffff_ffff_ffffn)]);
  const entries = Array.from({ length: COUNT }, (_, index) =>
    encodeSnapshotEntry({
      ...{ id: String(index + 1), name: nameOf(index), extra, l1Size, l1TableOffset },
      dateSeconds: 1_700_000_000 + index * 60,
    }),
  );
  const offset = Math.ceil(fs.statSync(image).size / CLUSTER) * CLUSTER;
  writeParts(image, [
    [offset, Buffer.concat(entries)],
    // nb_snapshots and snapshots_offset.
    [60, Buffer.concat([Buffer.from([0, 1, 0, 0]), u64(BigInt(offset))])],
  ]);
  return image;
}

function writeParts(image: string, parts: readonly (readonly [number, Buffer])[]): void {
  const fd = fs.openSync(image, 'r+');
  try {
    for (const [offset, bytes] of parts) fs.writeSync(fd, bytes, 0, bytes.length, offset);
  } finally {
    fs.closeSync(fd);
  }
}

/** Runs the launcher. */
function measure(folder: string, args: readonly string[]) {
  const report = `${folder}/peak`;
  const env = { NODE_OPTIONS: `--import=${PEAK_MEMORY}`, PEAK_MEMORY_FILE: report };
  const { status, stdout } = tryCommand(QCOW2FS, args, { env });
  return { status, stdout, peakKib: Number(fs.readFileSync(report, 'utf8')) };
}

function peakKibOf(pid: number): number {
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

test('all snapshots that QEMU allows are listed, checked and mounted in bounded memory', () =>
  withTemporaryFolder(async (folder) => {
    const image = makeImage(folder);
    // Two lines above the snapshots.
    const ofQemu = runCommand('qemu-img', ['snapshot', '-l', image]).trimEnd().split('\n').slice(2);
    expect(ofQemu).toHaveLength(COUNT);
    const runs = [['list'], ['list', '--json'], ['info'], ['info', '--json'], ['check']] as const;
    for (const [command, ...options] of runs) {
      const { status, stdout, peakKib } = measure(folder, [command, ...options, image]);
      const title = [command, ...options].join(' ');
      // The refcounts of QEMU's empty disk do not count the snapshots.
      expect(status, title).toBe(command === 'check' ? 2 : 0);
      expect(peakKib, title).toBeLessThan(MAX_RESIDENT_KIB);
      if (options.length > 0) {
        const { snapshots } = JSON.parse(stdout) as { snapshots: { id: string; name: string }[] };
        expect(snapshots.map(({ id, name }) => `${id} ${name}`)).toEqual(ofQemu.map(idAndName));
      }
    }
    await withMount(image, (mountpoint) => {
      const daemon = daemonOf(mountpoint);
      expect(peakKibOf(daemon), 'at rest').toBeLessThan(MAX_RESIDENT_KIB);
      expect(runCommand('stat', ['-c', '%h', `${mountpoint}/snapshots`])).toBe(`${COUNT + 2}\n`);
      const text = runCommand('cat', [`${mountpoint}/image.json`]);
      expect(runCommand('stat', ['-c', '%s', `${mountpoint}/image.json`])).toBe(`${Buffer.byteLength(text)}\n`);
      expect(peakKibOf(daemon), 'image.json').toBeLessThan(MAX_RESIDENT_KIB);
      const { snapshots } = JSON.parse(text) as { snapshots: { id: string; name: string }[] };
      expect(snapshots.map(({ id, name }) => `${id} ${name}`)).toEqual(ofQemu.map(idAndName));
    });
  }));

/** Of a line of `qemu-img snapshot -l`: id, name, size of the VM state, date. */
function idAndName(line: string): string {
  const [, id, name] = /^(\S+)\s+(.*?\.+) /.exec(line) ?? [];
  return `${id} ${name}`;
}

test('tables that are as long as they may be, and not there, cost no memory', () =>
  withTemporaryFolder(async (folder) => {
    const image = `${folder}/long-tables.qcow2`;
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1G']);
    const [hole, fileBytes] = [1n << 20n, 48 << 20];
    const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer).swap32();
    fs.truncateSync(image, fileBytes);
    writeParts(image, [
      // QCOW_MAX_L1_SIZE and QCOW_MAX_REFTABLE_SIZE, both in a hole of the file.
      [36, Buffer.concat([u32((32 << 20) / 8), u64(hole)])],
      [48, Buffer.concat([u64(hole + (32n << 20n)), u32((8 << 20) / CLUSTER)])],
    ]);
    for (const command of ['list', 'info', 'check']) {
      expect(measure(folder, [command, image]).peakKib, command).toBeLessThan(MAX_RESIDENT_KIB);
    }
    await withMount(image, (mountpoint) => {
      runCommand('cmp', ['-n', '1M', `${mountpoint}/current/disk.raw`, '/dev/zero']);
      expect(peakKibOf(daemonOf(mountpoint))).toBeLessThan(MAX_RESIDENT_KIB);
    });
  }));
