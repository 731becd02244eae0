/** A data base whose machine was snapshotted under load comes up on a scratch view, as it does on a copy of the disk. */

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { waitUntil } from '../daemon/mounting.ts';
import { createSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { withScratch } from '../support/mounted-image.ts';
import { ordinaryUser } from '../support/ordinary-user.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { MIB } from '../volumes/partitioned-disk.ts';
import { Cluster } from './postgres.ts';

const DISK_BYTES = 192 * MIB;
const SUMS =
  'SELECT (SELECT count(*) FROM pgbench_history), (SELECT sum(delta) FROM pgbench_history), ' +
  '(SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches)';

/** Runs `body` with the mounted file system of a disk, which may be mounted already somewhere else under the same UUID. */
async function withFileSystem(disk: string, folder: string, body: (mounted: string) => Promise<void>): Promise<void> {
  fs.mkdirSync(folder);
  runCommand('mount', ['-o', 'loop', disk, folder]);
  try {
    await body(folder);
  } finally {
    // A process that ends has its folder a little longer, and so has the kernel a loop device that others look at.
    await waitUntil(() => tryCommand('umount', [folder]).status === 0);
    await waitUntil(() => runCommand('losetup', ['--associated', disk]) === '');
  }
}

/** Copies the disk of a data base amid its transactions; what it has in memory is lost. */
async function copyUnderLoad(raw: string, copy: string, folder: string, outside: string): Promise<void> {
  fs.writeFileSync(raw, '');
  fs.truncateSync(raw, DISK_BYTES);
  runCommand('mkfs.ext4', ['-q', raw]);
  await withFileSystem(raw, folder, async (mounted) => {
    fs.chmodSync(mounted, 0o755);
    const cluster = new Cluster(mounted, outside);
    cluster.create();
    await cluster.whileRunning(async () => {
      cluster.run('pgbench', '--initialize', '--quiet', '--scale=1', 'postgres');
      cluster.query('CHECKPOINT');
      const load = cluster.start('pgbench', '--client=2', '--time=4', '--no-vacuum', 'postgres');
      await sleep(2000);
      cluster.signal('SIGSTOP');
      try {
        runCommand('sync', ['-f', mounted]);
        runCommand('cp', ['--sparse=always', raw, copy]);
      } finally {
        cluster.signal('SIGCONT');
      }
      await load;
    }, 'immediate');
  });
}

/** Starts the data base of a disk, and returns what is in it. */
async function recover(disk: string, folder: string, outside: string): Promise<string> {
  let sums = '';
  await withFileSystem(disk, folder, async (mounted) => {
    const cluster = new Cluster(mounted, outside);
    // The process that it names was one of the machine that was snapshotted, and may be another one here.
    fs.rmSync(path.join(cluster.data, 'postmaster.pid'));
    await cluster.whileRunning(() => {
      expect(cluster.log()).toContain('database system was not properly shut down; automatic recovery in progress');
      expect(cluster.log()).toMatch(/redo starts at [\s\S]*redo done at /);
      cluster.run('pg_amcheck', '--all', '--install-missing', '--heapallindexed', '--rootdescend', '--parent-check');
      sums = cluster.query(SUMS);
      cluster.run('pgbench', '--client=1', '--transactions=20', '--no-vacuum', 'postgres');
    });
    await cluster.whileRunning(() => expect(cluster.query(SUMS)).not.toBe(sums));
  });
  return sums;
}

test('PostgreSQL replays its log on a scratch view and finds no fault, with what it has on a copy of the disk', () =>
  withTemporaryFolder(async (folder) => {
    const [raw, copy, image] = ['live.raw', 'copy.raw', 'disk.qcow2'].map((name) => path.join(folder, name)) as [
      string,
      string,
      string,
    ];
    const { uid, gid } = ordinaryUser();
    const outside = (name: string) => {
      const made = path.join(folder, name);
      fs.mkdirSync(made);
      fs.chownSync(made, uid, gid);
      return made;
    };
    await copyUnderLoad(raw, copy, `${folder}/live`, outside('a'));
    runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', copy, image]);
    createSnapshot(image, 'night');
    runQemuIo(image, [`write -q -z 0 ${DISK_BYTES}`]);
    const truth = await recover(copy, `${folder}/recovered`, outside('b'));
    expect(Number(truth.split('|')[0])).toBeGreaterThan(0);
    await withScratch(image, 'night', async (mountpoint) => {
      expect(await recover(`${mountpoint}/disk.raw`, `${folder}/view`, outside('c'))).toBe(truth);
    });
  }));
