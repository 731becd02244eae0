/**
 * Measures a mount of qcow2fs beside other programs that show a qcow2 image as a file, and prints one table.
 *
 * Usage: node test/bench/bench.mjs [--quick] [--only PATTERN] [--json FILE] [--write]
 *   --quick          small images and short rounds: shows that it works, not how fast
 *   --only PATTERN   what matches a regular expression only, such as 'zlib' or 'plain: random'
 *   --json FILE      also writes all results with every round
 *   --write          also writes native-notes/benchmarks.md and benchmarks.svg
 *
 * Needs root. Images are made in $TMPDIR or /var/tmp and take about 6 GiB there for a moment.
 */

import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { CASES } from './cases.mjs';
import { countBusyCpus, describeMachine, describeNoise, watchStolenTime } from './machine.mjs';
import { measureCase } from './measure-case.mjs';
import { drawChart } from './report/chart.mjs';
import { formatJson } from './report/json.mjs';
import { formatNote } from './report/note.mjs';
import { peakRow } from './report/peak-row.mjs';
import { formatTable } from './report/table.mjs';
import { undoAll, undoLater } from './run.mjs';
import { say } from './say.mjs';
import { FULL, QUICK } from './sizes.mjs';

const NOTE = new URL('../../native-notes/benchmarks.md', import.meta.url);
const CHART = new URL('../../native-notes/benchmarks.svg', import.meta.url);
/** Others that take more than this of a CPU are worth a warning. */
const MAX_BUSY_CPUS = 0.1;
const MAX_STOLEN_SHARE = 0.02;

try {
  await bench(readFlags());
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exitCode = 1;
}
if (!(await undoAll())) process.exitCode = 1;

function readFlags() {
  const { values } = parseArgs({
    options: {
      quick: { type: 'boolean' },
      only: { type: 'string' },
      json: { type: 'string' },
      write: { type: 'boolean' },
    },
  });
  if (values.write && (values.quick || values.only !== undefined))
    throw new Error('only a full run is worth writing: leave out --write, or --quick and --only');
  return { ...values, only: new RegExp(values.only ?? '', 'i') };
}

async function bench(flags) {
  if (process.getuid() !== 0) throw new Error('qcow2fs mounts as root: run it as root');
  const cases = chosenCases(flags.only);
  if (cases.length === 0) throw new Error('nothing matches --only');
  const busyCpus = await countBusyCpus();
  warnOfNoise(busyCpus);
  const sizes = flags.quick ? QUICK : FULL;
  const stolenShare = watchStolenTime();
  const begin = performance.now();
  const rows = await measureAll(cases, sizes);
  const noise = { busyCpus, stolenShare: stolenShare() };
  const machine = [...(await describeMachine()), describeNoise(noise)];
  const about = { date: new Date().toISOString().slice(0, 10), machine, noise, sizes };
  const table = formatTable(rows, sizes);
  console.log(`\n${table}`);
  if (flags.quick) say('that was a quick run: images were smaller than the table says');
  say(`it took ${Math.round((performance.now() - begin) / 1000)} s`);
  if (noise.stolenShare > MAX_STOLEN_SHARE) say(`the host took CPU time away: the figures will be off`);
  if (flags.json !== undefined) fs.writeFileSync(flags.json, formatJson(rows, about));
  if (flags.write) writeNote(rows, { ...about, table });
}

/** Cases with those of their tasks that are asked for. */
function chosenCases(only) {
  return CASES.map((each) => ({
    benchCase: each,
    tasks: each.tasks.filter(({ title }) => only.test(`${each.title}: ${title}`)),
  })).filter(({ tasks }) => tasks.length > 0);
}

/** Servers and readers share the processors with whatever else runs, and lose unequally. */
function warnOfNoise(busyCpus) {
  if (busyCpus > MAX_BUSY_CPUS)
    say(`other programs keep ${busyCpus.toFixed(1)} CPUs busy, and the figures will be off`);
}

async function measureAll(cases, sizes) {
  // Short, as all of it goes into the paths of sockets, which have 107 bytes at most.
  const folder = fs.mkdtempSync(path.join(fs.realpathSync(process.env.TMPDIR ?? '/var/tmp'), 'bench-'));
  undoLater(() => fs.rmSync(folder, { recursive: true, force: true }));
  const peaks = new Map();
  const rows = [];
  for (const { benchCase, tasks } of cases)
    rows.push(...(await measureCase(benchCase, tasks, { folder, sizes, peaks })));
  return [...rows, peakRow(peaks)];
}

function writeNote(rows, about) {
  fs.writeFileSync(NOTE, formatNote(fs.readFileSync(NOTE, 'utf8'), about));
  fs.writeFileSync(CHART, drawChart(rows));
  say('wrote native-notes/benchmarks.md and benchmarks.svg');
}
