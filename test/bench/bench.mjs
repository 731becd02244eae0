/**
 * Measures a mount of qcow2fs beside the FUSE export of qemu-storage-daemon and prints one table.
 *
 * Usage: node test/bench/bench.mjs [--quick] [--write]
 *   --quick   a small image and short rounds: shows that it works, not how fast
 *   --write   also writes native-notes/benchmarks.md
 *
 * Needs root. The image is made in $TMPDIR or /var/tmp and takes about 4.5 GiB there for a moment.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { makeImage } from './make-image.mjs';
import { describeMachine, formatNote, formatTable, median } from './report.mjs';
import { run, undoAll, undoLater } from './run.mjs';
import { peakMemoryBytes, startQcow2fs, startQemuExport } from './servers.mjs';
import { measure, workloads } from './workloads.mjs';

const MIB = 2 ** 20;
const FULL = { sizeBytes: 2048 * MIB, rounds: 5, seconds: 5 };
const QUICK = { sizeBytes: 256 * MIB, rounds: 3, seconds: 1 };
const NOTE = new URL('../../native-notes/benchmarks.md', import.meta.url);

const { values: flags } = parseArgs({ options: { quick: { type: 'boolean' }, write: { type: 'boolean' } } });

try {
  await bench(flags.quick ? QUICK : FULL);
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
if (!(await undoAll())) process.exitCode = 1;

async function bench(extent) {
  if (flags.quick && flags.write)
    throw new Error('figures of a quick run are not worth writing: leave out --quick or --write');
  if (process.getuid() !== 0) throw new Error('qcow2fs mounts as root: run it as root');
  warnOfNoise();
  if (os.freemem() < extent.sizeBytes * 2)
    console.error('bench: memory is short: the image may not stay in the page cache');
  const folder = fs.mkdtempSync(path.join(process.env.TMPDIR ?? '/var/tmp', 'qcow2fs-bench-'));
  undoLater(() => fs.rmSync(folder, { recursive: true, force: true }));

  say(`making an image of ${extent.sizeBytes / MIB} MiB in ${folder}`);
  const image = await makeImage(folder, extent.sizeBytes);
  const ours = await startQcow2fs(image, folder);
  const theirs = await startQemuExport(image, folder);
  say('comparing the bytes of both');
  await requireSameBytes(ours, theirs);

  const rows = [...(await measureAll(ours, theirs, image, extent)), memoryRow(ours, theirs)];
  const table = formatTable(rows);
  console.log(`\n${table}`);
  if (flags.write) await writeNote(table, extent);
}

/** Both servers and fio share the processors with whatever else runs, and lose unequally. */
function warnOfNoise() {
  const [load = 0] = os.loadavg();
  if (load > 0.5)
    console.error(`bench: the load is ${load.toFixed(1)}: other programs run, and the figures will be off`);
}

async function requireSameBytes(ours, theirs) {
  const [first, second] = await Promise.all(
    [ours, theirs].map(async ({ file }) => (await run('sha256sum', [file])).split(' ')[0]),
  );
  if (first !== second) throw new Error(`the servers show different bytes: sha256 ${first} and ${second}`);
}

async function measureAll(ours, theirs, image, { rounds, seconds }) {
  // What the image file is read from must not change between the rounds.
  await run('dd', [`if=${image}`, 'of=/dev/null', 'bs=1M', 'status=none']);
  const rows = [];
  for (const workload of workloads(seconds)) {
    say(workload.title);
    const results = new Map([ours, theirs].map((server) => [server, []]));
    for (let round = 0; round < rounds; round++) {
      for (const server of round % 2 === 0 ? [ours, theirs] : [theirs, ours]) {
        results.get(server).push(await measure(workload, server, round));
      }
    }
    rows.push({ ...workload, ours: median(results.get(ours)), theirs: median(results.get(theirs)) });
  }
  return rows;
}

function memoryRow(ours, theirs) {
  const [first, second] = [ours, theirs].map((server) => peakMemoryBytes(server) / MIB);
  return { title: 'peak memory', unit: 'MiB', ours: first, theirs: second };
}

async function writeNote(table, extent) {
  const firstLine = async (command) => (await run(command, ['--version'])).split('\n')[0];
  const machine = describeMachine([await firstLine('qemu-storage-daemon'), await firstLine('fio')]);
  const date = new Date().toISOString().slice(0, 10);
  fs.mkdirSync(new URL('.', NOTE), { recursive: true });
  fs.writeFileSync(NOTE, formatNote({ date, machine, table, ...extent }));
  say(`wrote ${path.relative(process.cwd(), NOTE.pathname)}`);
}

function say(text) {
  console.error(`bench: ${text}`);
}
