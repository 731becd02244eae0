/**
 * A race of readers against a running virtual machine: a real QEMU has the image open, writes all the time, and creates
 * and deletes snapshots; readers go through every way into the mount meanwhile. What they get must be exactly what the
 * snapshot holds, or a refusal. Prints what happened and exits with 1 if anything else did.
 *
 * Usage: node test/race/race.mjs [options]
 *   --cycles N       snapshots to create (2000, unless --seconds is given)
 *   --seconds N      how long
 *   --transport T    kernel, kernel-user (as an ordinary user) or fuse-native (kernel)
 *   --user NAME      who that ordinary user is (nobody)
 *   --seed S         another seed, other writes and reads; a new one each time if it is left out
 *   --base B         what the image starts with: empty, compressed or backing (compressed)
 *   --cluster-size N in bytes (65536)
 *   --cache C        how QEMU writes: writeback, or none for O_DIRECT (writeback)
 *   --vm-state       some snapshots have VM state
 *   --busy-mount     mount while the machine writes, and not before it does
 *   --readers N      how many processes read (3)
 *   --json           print the result as JSON
 *
 * Needs root, QEMU and a build in dist/.
 */

import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { checkInterrupted, undoAll } from '../bench/run.mjs';
import { Random } from '../fuzz/random.mjs';
import { Driver } from './driver.mjs';
import { BASES, compareWithQemu, makeRaceImage } from './image.mjs';
import { JournalReader, JournalWriter, now } from './journal.mjs';
import { startMachine } from './machine.mjs';
import { makePlace, mountImage, unmountImage } from './mount.mjs';
import { failedReport, startReader } from './readers.mjs';

const TRANSPORTS = ['kernel', 'kernel-user', 'fuse-native'];
const CACHES = ['writeback', 'none'];
/** Snapshots that there are before the mount. */
const FIRST_CYCLES = 5;
/** Not the stream of a reader, which has its number. */
const DRIVER_STREAM = 1000;

const { values: flags } = parseArgs({
  options: {
    cycles: { type: 'string' },
    seconds: { type: 'string' },
    transport: { type: 'string', default: 'kernel' },
    user: { type: 'string', default: 'nobody' },
    seed: { type: 'string' },
    base: { type: 'string', default: 'compressed' },
    'cluster-size': { type: 'string', default: '65536' },
    cache: { type: 'string', default: 'writeback' },
    'vm-state': { type: 'boolean', default: false },
    'busy-mount': { type: 'boolean', default: false },
    readers: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
});
const seed = Number(flags.seed ?? Math.floor(Math.random() * 2 ** 31));
const cycleCount = Number(flags.cycles ?? (flags.seconds === undefined ? 2000 : Infinity));
const seconds = Number(flags.seconds ?? Infinity);
try {
  requireOneOf('transport', TRANSPORTS);
  requireOneOf('base', BASES);
  requireOneOf('cache', CACHES);
  const result = await race();
  console.log(flags.json ? JSON.stringify(result) : toText(result));
  if (result.details.length > 0) process.exitCode = 1;
} catch (error) {
  console.error(`race: seed ${seed}: ${error.stack}`);
  process.exitCode = 1;
} finally {
  if (!(await undoAll())) process.exitCode = 1;
}

async function race() {
  const place = await makePlace(flags.transport === 'kernel-user' ? flags.user : undefined);
  const { image, epochs } = await makeRaceImage(place.folder, flags.base, Number(flags['cluster-size']));
  const machine = await startMachine(place.folder, image, { cache: flags.cache });
  const journal = new JournalWriter(place.journal);
  const driver = new Driver(machine, journal, new Random(seed, DRIVER_STREAM), epochs, flags['vm-state']);
  while (driver.cycles < FIRST_CYCLES) await driver.cycle();

  const startReading = async () => {
    await mountImage(place, flags.transport.replace('-user', ''), image);
    return Array.from({ length: Number(flags.readers) }, (_, index) =>
      startReader(place.prefix, place.reader, [place.mountpoint, place.journal, seed, index]),
    );
  };
  const start = now();
  let readers;
  if (flags['busy-mount']) {
    [readers] = await Promise.all([startReading(), drive(driver, start)]);
  } else {
    readers = await startReading();
    await driver.rest();
    await drive(driver, start);
  }
  const elapsed = (now() - start) / 1e9;
  const reports = await Promise.all(readers.map((reader) => reader.finish()));
  try {
    await unmountImage(place);
  } catch (error) {
    reports.push(failedReport('unmount', error.message));
  }
  const ids = new Map((await machine.snapshots()).map(({ id, name }) => [name, id]));
  await machine.quit();
  journal.close();
  await checkRecord(place, image, driver.live, ids);
  return summarize(driver, elapsed, reports, place);
}

async function drive(driver, start) {
  const deadline = start + seconds * 1e9;
  while (driver.cycles < FIRST_CYCLES + cycleCount && now() < deadline) {
    checkInterrupted();
    await driver.cycle();
    await driver.rest();
  }
}

/** The truth that the readers compared with is QEMU's. */
async function checkRecord({ folder, journal }, image, live, ids) {
  const record = new JournalReader(journal);
  const snapshots = live.map(({ key, name }) => ({ id: ids.get(name), epochs: record.epochsOf({ key }) }));
  await compareWithQemu(folder, image, snapshots);
}

function summarize(driver, elapsed, reports, place) {
  const sums = (part) => {
    const sum = {};
    for (const [name, count] of reports.flatMap((report) => Object.entries(report[part]))) {
      sum[name] = name === 'behindMs' ? Math.max(sum[name] ?? 0, count) : (sum[name] ?? 0) + count;
    }
    return sum;
  };
  return {
    seed,
    transport: flags.transport,
    cycles: driver.cycles - FIRST_CYCLES,
    seconds: elapsed,
    twins: driver.twinCount,
    snapshotsRead: new Set(reports.flatMap(({ readKeys }) => readKeys)).size,
    ...sums('counts'),
    findings: sums('findingCounts'),
    details: reports.flatMap(({ details }) => details),
    log: fs.readFileSync(place.log, 'utf8'),
  };
}

function toText(result) {
  const { cycles, details, findings, log, transport } = result;
  const mebibytes = Math.round(result.acceptedBytes / 2 ** 20);
  const found = Object.entries(findings).map(([kind, count]) => `${count} ${kind}`);
  return [
    `race: ${cycles} cycles (${result.twins} with twins) in ${Math.round(result.seconds)} s, seed ${seed}, ${transport}, ${flags.base}: ` +
      `${result.acceptedReads} reads accepted (${result.mappedReads} mapped, ${mebibytes} MiB) of ${result.snapshotsRead} snapshots`,
    `  refused: ${result.stale} ESTALE, ${result.missing} ENOENT, ${result.mapsRefused} mapped; ` +
      `${result.wentStale} open files became stale`,
    `  ${result.lists} listings, at most ${result.behindMs} ms behind`,
    `  findings: ${found.join(', ') || 'none'}`,
    ...details.map((line) => `    ${line}`),
    ...log
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => `  log: ${line}`),
  ].join('\n');
}

function requireOneOf(name, values) {
  if (!values.includes(flags[name])) throw new Error(`--${name} is one of ${values.join(', ')}`);
}
