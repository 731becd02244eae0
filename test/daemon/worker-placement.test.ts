import fs from 'node:fs';
import path from 'node:path';
import { expect, type TestContext, test, vi } from 'vitest';
import { noteComputation } from '../../src/common/computation.ts';
import { unmount } from '../../src/daemon/stop-mount.ts';
import { workerPlacement } from '../../src/daemon/worker-placement.ts';
import { createEncryptedImage } from '../oracle/encrypted.ts';
import { allowedCpus } from '../support/allowed-cpus.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand } from '../support/run-command.ts';
import { daemonOf, makeImage, withPlace } from './mounting.ts';

const WORKER_COUNT = 2;
/** Of those that are compressed, behind the data of `makeImage`. */
const FIRST_CLUSTER = 16;
const ROUND_CLUSTERS = 48;
const ROUND_COUNT = 20;
const PASSPHRASE = 'correct horse';

test('each worker has its own CPU while there are as many and it does not compute', (context) =>
  withPlace(async ({ folder, mountpoint }) => {
    const cpus = skipWithoutCpus(context, WORKER_COUNT);
    const image = makeImage(folder, '64M');
    const clusters = Array.from({ length: ROUND_COUNT * ROUND_CLUSTERS }, (_, index) => FIRST_CLUSTER + index);
    const compressed = clusters.map((cluster) => `write -q -c -P 0x62 ${64 * cluster}k 64k`);
    runCommand('qemu-io', ['-f', 'qcow2', ...compressed.flatMap((write) => ['-c', write]), image]);
    mountOn(cpus, [image, mountpoint]);
    expect(boundThreads(mountpoint, WORKER_COUNT)).toEqual([]);
    const boundCount = () => boundThreads(mountpoint, WORKER_COUNT).length;
    // Which worker takes a request is a matter of the scheduler.
    for (let round = 0; round < ROUND_COUNT && boundCount() < WORKER_COUNT; round++) readInSmallSteps(mountpoint);
    expect(boundThreads(mountpoint, WORKER_COUNT).sort()).toEqual(cpus.map((cpu) => [cpu]).sort());
    // Never twice the same, which is cached.
    for (let round = 0; round < ROUND_COUNT && boundCount() > 0; round++) {
      const skip = FIRST_CLUSTER + ROUND_CLUSTERS * round;
      readDirectly(mountpoint, ['bs=64k', `count=${ROUND_CLUSTERS}`, `skip=${skip}`]);
    }
    expect(boundThreads(mountpoint, WORKER_COUNT)).toEqual([]);
    await unmount(mountpoint);
  }));

test('workers that decrypt run where the scheduler likes', (context) =>
  withPlace(async ({ folder, mountpoint }) => {
    const cpus = skipWithoutCpus(context, WORKER_COUNT);
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

test.each([[[4]], [[4, 9, 10]]])('a worker is not bound where the machine gives it %j', (cpus) => {
  const calls = { setCpus: vi.fn(() => true) };
  workerPlacement(0, () => cpus)(calls);
  noteComputation();
  expect(calls.setCpus).not.toHaveBeenCalled();
});

test('a worker that computes already is not bound', () => {
  const calls = { setCpus: vi.fn(() => true) };
  const place = workerPlacement(0, () => [4, 9]);
  noteComputation();
  place(calls);
  expect(calls.setCpus).not.toHaveBeenCalled();
});

test.each([
  ['gets all CPUs back', [9], [[[9]], [[4, 9]]]],
  ['stays where somebody else has put it', [4], [[[9]]]],
])('a worker that begins to compute %s', (_, cpusLater, expected) => {
  const calls = { setCpus: vi.fn(() => true) };
  const readCpus = vi.fn(() => cpusLater).mockReturnValueOnce([4, 9]);
  workerPlacement(1, readCpus)(calls);
  noteComputation();
  noteComputation();
  expect(calls.setCpus.mock.calls).toEqual(expected);
});

function skipWithoutCpus({ skip }: TestContext, count: number): number[] {
  const cpus = allowedCpus('self');
  if (cpus.length < count) skip(`this machine gives ${cpus.length} CPUs, not ${count}`);
  return cpus.slice(0, count);
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
