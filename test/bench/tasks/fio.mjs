/** Reading measured with fio. */

import { run } from '../run.mjs';

const MEGABYTE = 1e6;
const BANDWIDTH = {
  unit: 'MB/s',
  better: 'higher',
  value: ({ bw_bytes: bytesPerSecond }) => bytesPerSecond / MEGABYTE,
};
const READS = { unit: 'reads/s', better: 'higher', value: ({ iops }) => iops };

/** fio drops the page cache of the file first, so that every round reads through the server. */
const BUFFERED = ['--rw=read', '--bs=1M', '--invalidate=1'];

export const sequential = task('sequential, buffered', BANDWIDTH, cut(BUFFERED));
export const sequentialDirect = task(
  'sequential, O_DIRECT, 1 MiB',
  BANDWIDTH,
  cut(['--rw=read', '--bs=1M', '--direct=1']),
);

/** Every file of the server has a reader of its own, all at once. */
export const allAtOnce = {
  ...BANDWIDTH,
  title: 'all at once, sequential, buffered',
  measure: async ({ server, round, sizes }) => {
    const files = server.files.flatMap((file, index) => [`--name=reader-${index}`, `--filename=${file}`]);
    return BANDWIDTH.value(await fio(server, cut(BUFFERED)(sizes), round, files));
  },
};

export function randomReads(readerCount) {
  const title = `random 4 KiB, O_DIRECT, ${readerCount} ${readerCount === 1 ? 'reader' : 'readers'}`;
  return task(title, READS, ({ seconds }) => [
    ...['--rw=randread', '--bs=4k', '--direct=1', '--time_based'],
    ...[`--runtime=${seconds * 1000}ms`, `--numjobs=${readerCount}`],
  ]);
}

function task(title, figure, argumentsOf) {
  return {
    ...figure,
    title,
    measure: async ({ server, round, sizes }) => {
      const [file] = server.files;
      return figure.value(await fio(server, argumentsOf(sizes), round, ['--name=reader', `--filename=${file}`]));
    },
  };
}

/** A slow server need not come to the end: its rate is known before. */
function cut(args) {
  return ({ sequentialLimitSeconds }) => [...args, `--runtime=${sequentialLimitSeconds}`];
}

/** Runs fio once; the same round reads the same places on all servers. */
async function fio(server, args, round, jobs) {
  // The page cache is where the raw file is. Otherwise the disk would be measured.
  const ofRawFile = server.isRaw ? ['--direct=0', '--invalidate=0'] : [];
  const output = await run('fio', [
    ...['--readonly', '--ioengine=psync', '--thread', '--group_reporting', '--output-format=json'],
    ...[`--randseed=${round + 1}`, ...args, ...ofRawFile, ...jobs],
  ]);
  return JSON.parse(output).jobs[0].read;
}
