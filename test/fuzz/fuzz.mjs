/**
 * Damages healthy images in thousands of ways and does with each all that a user can do: every step must end within a
 * second, in bytes or a Qcow2fsError. Prints what it found and exits with 1 if that is anything.
 *
 * Usage: node test/fuzz/fuzz.mjs [--seconds N] [--cases N] [--seed S] [--case N]
 *   --seconds N  how long (60, unless --cases is given)
 *   --cases N    how many cases
 *   --seed S     another seed, other mutations; a new one each time if it is left out
 *   --case N     this case of the seed alone
 *   --ask-qemu N  compare the bytes of each Nth case with those that QEMU reads (50); a process of QEMU takes as long as some cases
 *
 * Needs QEMU's tools and a build in dist/. What it finds is kept in a new folder in $TMPDIR.
 */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { makeCorpus } from './corpus.mjs';

/** A case has hundreds of steps of a second at most; a sound one takes some milliseconds. */
const STUCK_MS = 20_000;
const MAX_FINDINGS = 20;

const { values: flags } = parseArgs({
  options: {
    seconds: { type: 'string' },
    cases: { type: 'string' },
    seed: { type: 'string' },
    case: { type: 'string' },
    'ask-qemu': { type: 'string' },
  },
});
const seed = Number(flags.seed ?? Math.floor(Math.random() * 2 ** 31));
const threadCount = flags.case === undefined ? Math.max(1, Math.min(4, os.availableParallelism())) : 1;
const first = Number(flags.case ?? 0);
const askEach = flags.case === undefined ? Number(flags['ask-qemu'] ?? 50) : 1;
const end = flags.case === undefined ? Number(flags.cases ?? Infinity) : first + 1;
const memory = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir();
const folder = fs.mkdtempSync(path.join(memory, 'qcow2fs-fuzz-'));
const findings = [];
try {
  await fuzz();
} finally {
  fs.rmSync(folder, { recursive: true, force: true });
}
if (findings.length > 0) process.exitCode = 1;

async function fuzz() {
  const corpus = makeCorpus(folder);
  const started = Date.now();
  const seconds = Number(flags.seconds ?? (end === Infinity ? 60 : Infinity));
  const deadline = started + seconds * 1000;
  const results = await Promise.all(
    Array.from({ length: threadCount }, (_, index) => runThread(corpus, first + index, deadline)),
  );
  const done = results.reduce((sum, each) => sum + each.done, 0);
  const slowest = results.map((each) => each.slowest).reduce((a, b) => (a.milliseconds > b.milliseconds ? a : b));
  const confirmed = results.reduce((sum, each) => sum + each.confirmed, 0);
  const elapsed = (Date.now() - started) / 1000;
  console.log(
    `fuzz: ${done} cases, seed ${seed}, ${Math.round(done / elapsed)} cases/s, ${findings.length} findings; ` +
      `QEMU gives the same bytes for ${confirmed} reads; ` +
      `the slowest step was ${slowest.step} with ${Math.round(slowest.milliseconds)} ms`,
  );
}

function runThread(corpus, start, deadline) {
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const home = path.join(folder, `thread-${start - first}`);
  fs.mkdirSync(home);
  return new Promise((resolve) => {
    const result = { done: 0, confirmed: 0, slowest: { milliseconds: 0, step: 'nothing' } };
    const worker = new Worker(new URL('./worker.mjs', import.meta.url), {
      workerData: { corpus, folder: home, seed, first: start, step: threadCount, end, deadline, progress, askEach },
      resourceLimits: { maxOldGenerationSizeMb: 512 },
    });
    let last = -1;
    let since = Date.now();
    const watchdog = setInterval(() => {
      const now = Atomics.load(progress, 0);
      if (now !== last) {
        last = now;
        since = Date.now();
      } else if (now >= 0 && Date.now() - since > STUCK_MS) {
        report({ number: now, message: `it does not end within ${STUCK_MS} ms`, ...filesIn(home) });
        worker.terminate();
      }
    }, 500);
    worker.on('message', (message) => {
      if (message.finding !== undefined) report(message.finding);
      else Object.assign(result, message);
      if (findings.length >= MAX_FINDINGS) worker.terminate();
    });
    worker.on('error', (error) => {
      report({ number: Atomics.load(progress, 0), message: `the thread dies: ${error.stack}`, ...filesIn(home) });
    });
    worker.on('exit', () => {
      clearInterval(watchdog);
      resolve(result);
    });
  });
}

/** All images of a thread as they are: one of them is damaged. */
function filesIn(home) {
  const names = fs.readdirSync(home, { recursive: true }).filter((name) => name.includes('/'));
  const files = names.map((name) => ({
    name: name.replaceAll('/', '-'),
    bytes: fs.readFileSync(path.join(home, name)),
  }));
  return { image: 'unknown', mutations: ['unknown'], files };
}

function report({ number, message, image, mutations, files }) {
  findings.push(number);
  const kept = fs.mkdtempSync(path.join(os.tmpdir(), `qcow2fs-fuzz-case-${number}-`));
  for (const { name, bytes } of files) fs.writeFileSync(path.join(kept, name), bytes);
  console.log(
    `fuzz: case ${number} of seed ${seed}: ${message}\n  image: ${image}\n  mutations:\n` +
      `${mutations.map((line) => `    ${line}\n`).join('')}  kept as ${path.join(kept, files[0].name)}`,
  );
}
