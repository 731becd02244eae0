import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { createEncryptedImage } from '../oracle/encrypted.ts';
import { allowedCpus } from '../support/allowed-cpus.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand } from '../support/run-command.ts';
import { daemonOf, makeImage, withPlace } from './mounting.ts';

const WORKER_COUNT = 2;
const PASSPHRASE = 'correct horse';

test('each worker has its own CPU while there are as many and it does not compute', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const cpus = cpusForTest(WORKER_COUNT);
    if (cpus === undefined) return;
    const image = makeImage(folder);
    const compressed = Array.from({ length: 48 }, (_, cluster) => `write -q -c -P 0x62 ${1024 + 64 * cluster}k 64k`);
    runCommand('qemu-io', ['-f', 'qcow2', ...compressed.flatMap((write) => ['-c', write]), image]);
    mountOn(cpus, [image, mountpoint]);
    expect(boundThreads(mountpoint, WORKER_COUNT)).toEqual([]);
    readInSmallSteps(mountpoint);
    expect(boundThreads(mountpoint, WORKER_COUNT).flat().sort()).toEqual(cpus);
    readDirectly(mountpoint, ['bs=64k', 'skip=16']);
    expect(boundThreads(mountpoint, WORKER_COUNT)).toEqual([]);
    await unmount(mountpoint);
  }));

test('workers that decrypt run where the scheduler likes', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const cpus = cpusForTest(WORKER_COUNT);
    if (cpus === undefined) return;
    const image = path.join(folder, 'disk.qcow2');
    const passphrase = path.join(folder, 'passphrase');
    fs.writeFileSync(passphrase, PASSPHRASE);
    const options = ['encrypt.format=luks', 'encrypt.iter-time=10', 'preallocation=full'];
    createEncryptedImage({ path: image, passphrase: PASSPHRASE, options, sizeBytes: 2 ** 20 });
    mountOn(cpus, ['--passphrase-file', passphrase, image, mountpoint]);
    readInSmallSteps(mountpoint);
    expect(boundThreads(mountpoint, WORKER_COUNT)).toEqual([]);
    await unmount(mountpoint);
  }));

test('workers are not bound where there are fewer CPUs', () =>
  withPlace(async ({ folder, mountpoint }) => {
    const cpus = cpusForTest(1) ?? [];
    mountOn(cpus, [makeImage(folder), mountpoint]);
    readInSmallSteps(mountpoint);
    const threads = threadsOf(mountpoint);
    expect(threads.length).toBeGreaterThan(WORKER_COUNT);
    expect(threads).toEqual(threads.map(() => cpus));
    await unmount(mountpoint);
  }));

/** undefined, which is told, if the machine has less of them. */
function cpusForTest(count: number): number[] | undefined {
  const cpus = allowedCpus('self');
  if (cpus.length >= count) return cpus.slice(0, count);
  console.log(`skipped: this machine gives ${cpus.length} CPUs, not ${count}`);
  return undefined;
}

function mountOn(cpus: readonly number[], args: readonly string[]): void {
  runCommand('taskset', ['-c', cpus.join(','), QCOW2FS, 'mount', ...args]);
}

/** Often enough for each worker to call the C library directly. */
function readInSmallSteps(mountpoint: string): void {
  for (let pass = 0; pass < 3; pass++) readDirectly(mountpoint, ['bs=512', 'count=2048']);
}

function readDirectly(mountpoint: string, range: readonly string[]): void {
  const disk = path.join(mountpoint, 'current/disk.raw');
  runCommand('dd', [`if=${disk}`, 'of=/dev/null', ...range, 'iflag=direct', 'status=none']);
}

/** The CPUs of each thread of the daemon that may use fewer of them than others. */
function boundThreads(mountpoint: string, cpuCount: number): number[][] {
  return threadsOf(mountpoint).filter((cpus) => cpus.length < cpuCount);
}

function threadsOf(mountpoint: string): number[][] {
  const pid = daemonOf(mountpoint);
  return fs.readdirSync(`/proc/${pid}/task`).map((thread) => allowedCpus(`${pid}/task/${thread}`));
}
