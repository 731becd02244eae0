/**
 * Measures the commands that tell from tables alone what snapshots hold and where they differ: on a disk of 1 TiB that is full, with 30
 * snapshots, of which 1 % changed each day. Beside them, what else tells where two snapshots differ: qemu-img compare of two copies.
 *
 * Usage: node test/bench/commands.mjs [--quick] [--write]
 *   --quick   a disk of 16 GiB, once: shows that it works, not how fast
 *   --write   also writes the table into native-notes/benchmarks.md
 *
 * The image takes about 250 MiB in $TMPDIR or /var/tmp: its data are holes, which is the best case for copying it.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { writeLargeImage } from './large-image.mjs';
import { describeMachine } from './machine.mjs';
import { median } from './report/median.mjs';
import { run, undoAll, undoLater } from './run.mjs';
import { say } from './say.mjs';

const GIB = 2 ** 30;
const FULL = { sizeBytes: 1024 * GIB, snapshotCount: 30, changedTables: 41, rounds: 5 };
const QUICK = { sizeBytes: 16 * GIB, snapshotCount: 30, changedTables: 1, rounds: 1 };
const QCOW2FS = new URL('../../bin/qcow2fs', import.meta.url).pathname;
const PEAK_MEMORY = new URL('../support/peak-memory.mjs', import.meta.url).href;
const NOTE = new URL('../../native-notes/benchmarks.md', import.meta.url);
/** The section of the note that is made here: from its heading to the next one. */
const SECTION = /\n## Large tables\n[\s\S]*?(?=\n## |$)/;

const { values: flags } = parseArgs({ options: { quick: { type: 'boolean' }, write: { type: 'boolean' } } });
try {
  await bench(flags.quick ? QUICK : FULL);
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
if (!(await undoAll())) process.exitCode = 1;

async function bench({ sizeBytes, snapshotCount, changedTables, rounds }) {
  if (flags.quick && flags.write) throw new Error('only a full run is worth writing: leave out --quick or --write');
  const folder = fs.mkdtempSync(path.join(process.env.TMPDIR ?? '/var/tmp', 'bench-'));
  undoLater(() => fs.rmSync(folder, { recursive: true, force: true }));
  const image = path.join(folder, 'large.qcow2');
  say('making the image');
  const begin = performance.now();
  writeLargeImage(image, { sizeBytes, snapshotCount, changedTables });
  const madeIn = (performance.now() - begin) / 1000;
  await run('cp', ['--sparse=auto', image, '/dev/null']);
  const last = `day${snapshotCount}`;
  const before = `day${snapshotCount - 1}`;
  const tasks = [
    ['list', [QCOW2FS, 'list', '--json', image]],
    ['list --would-free, 7 of 30', [QCOW2FS, 'list', '--json', image, '--would-free', 'day1..day7']],
    ['diff of two days', [QCOW2FS, 'diff', '--json', image, before, last]],
    ['diff of the first and the last day', [QCOW2FS, 'diff', '--json', image, 'day1', last]],
    ['map of a day', [QCOW2FS, 'map', '--json', image, last]],
  ];
  const rows = [];
  for (const [title, command] of tasks) {
    say(title);
    const figures = [];
    for (let round = 0; round < rounds; round++) figures.push(await measure(folder, command));
    rows.push([title, median(figures.map(({ seconds }) => seconds)), Math.max(...figures.map(({ mib }) => mib))]);
  }
  say('qemu-img compare of two copies');
  rows.push(['two copies, and qemu-img compare', await compareCopies(folder, image, [before, last])]);
  const table = formatTable(rows);
  console.log(`\n${table}`);
  if (flags.write) await writeSection(table, madeIn, rounds);
}

/** Wall time, and the most memory that was resident, of a command of ours. */
async function measure(folder, command) {
  const report = path.join(folder, 'report');
  const environment = [`NODE_OPTIONS=--import=${PEAK_MEMORY}`, `PEAK_MEMORY_FILE=${report}`];
  const seconds = await timeOf(['env', ...environment, ...command], path.join(folder, 'output'));
  return { seconds, mib: Number(fs.readFileSync(report, 'utf8')) / 1024 };
}

async function timeOf(command, output) {
  const begin = performance.now();
  await run('sh', ['-c', 'exec "$@" >"$0"', output, ...command]);
  return (performance.now() - begin) / 1000;
}

async function compareCopies(folder, image, names) {
  const copies = names.map((name) => path.join(folder, `${name}.raw`));
  const output = path.join(folder, 'output');
  let seconds = 0;
  for (const [index, name] of names.entries()) {
    seconds += await timeOf(['qemu-img', 'convert', '-l', name, '-O', 'raw', image, copies[index]], output);
  }
  return seconds + (await timeOf(['qemu-img', 'compare', '-f', 'raw', '-F', 'raw', ...copies], output));
}

function formatTable(rows) {
  const cells = rows.map(([title, seconds, mib]) => [
    title,
    `${seconds.toFixed(2)} s`,
    mib === undefined ? '' : `${Math.round(mib)} MiB`,
  ]);
  const all = [['', 'time', 'memory'], ...cells];
  const widths = [0, 1, 2].map((column) => Math.max(...all.map((row) => row[column].length)));
  const lines = all.map(([title, ...figures]) =>
    ['', title.padEnd(widths[0]), ...figures.map((cell, index) => cell.padStart(widths[index + 1])), '']
      .join(' | ')
      .trim(),
  );
  const rule = `|${widths.map((width, index) => (index === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`;
  return [lines[0], rule, ...lines.slice(1)].join('\n');
}

async function writeSection(table, madeIn, rounds) {
  const section = `
## Large tables

\`npm run bench:commands -- --write\` makes this section: a disk of 1 TiB that is full, in clusters of 64 KiB, with 30 snapshots; half
of the clusters of 41 of its 2,048 L2 tables are written anew each day, which is 1 %. The file was made in ${madeIn.toFixed(0)} s, and all its data are
holes, so that copies of two days cost little more than looking for them. Medians of ${rounds} rounds; the most memory of any.

${table}

Measured on ${new Date().toISOString().slice(0, 10)} with ${os.cpus().length} CPUs:

${(await describeMachine()).map((line) => `- ${line}`).join('\n')}
`;
  const note = fs.readFileSync(NOTE, 'utf8');
  fs.writeFileSync(
    NOTE,
    SECTION.test(note) ? note.replace(SECTION, section.trimEnd()) : `${note.trimEnd()}\n${section}`,
  );
  say('wrote native-notes/benchmarks.md');
}
