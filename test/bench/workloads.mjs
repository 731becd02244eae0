/** What is measured, with fio. */

import { run } from './run.mjs';

const MEGABYTE = 1e6;

/** Reads per second are told as they are, bytes per second in MB/s. */
const BANDWIDTH = { unit: 'MB/s', value: ({ bw_bytes: bytesPerSecond }) => bytesPerSecond / MEGABYTE };
const READS = { unit: 'reads/s', value: ({ iops }) => iops };

/**
 * @param seconds how long each random workload runs
 * @returns workloads, each with the least ratio to qemu-storage-daemon that is asked for
 */
export function workloads(seconds) {
  const random = ['--rw=randread', '--bs=4k', '--direct=1', '--time_based', `--runtime=${seconds}`];
  return [
    // fio drops the page cache of the file first, so that every round reads through the server.
    { title: 'sequential, buffered', ...BANDWIDTH, goal: 1.3, args: ['--rw=read', '--bs=1M', '--invalidate=1'] },
    { title: 'sequential, O_DIRECT, 1 MiB', ...BANDWIDTH, goal: 2.5, args: ['--rw=read', '--bs=1M', '--direct=1'] },
    { title: 'random 4 KiB, O_DIRECT, 1 reader', ...READS, goal: 1.5, args: random },
    { title: 'random 4 KiB, O_DIRECT, 4 readers', ...READS, goal: 3, args: [...random, '--numjobs=4'] },
  ];
}

/** Runs a workload once; the same round reads the same places on both servers. */
export async function measure(workload, server, round) {
  const output = await run('fio', [
    ...['--name=bench', '--readonly', '--ioengine=psync', '--thread', '--group_reporting', '--output-format=json'],
    ...[`--filename=${server.file}`, `--randseed=${round + 1}`],
    ...workload.args,
  ]);
  const { jobs } = JSON.parse(output);
  return workload.value(jobs[0].read);
}
