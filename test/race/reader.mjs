/**
 * A reader of a race. It uses the mount in every way there is, at random, and compares what it gets with the record.
 *
 * Arguments: the mountpoint, the folder of the journal, the seed, the number of this reader. A line on stdout says that it
 * is alive (`{}`) or what it found, when it ends (`{report}`). When its stdin ends it waits until the tree shows what there
 * is, reads all of that, and ends.
 */

import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../fuzz/random.mjs';
import { JournalReader, now } from './journal.mjs';
import { Judge, PATIENCE_MS } from './judge.mjs';

const MAX_OPEN_FILES = 8;
const MAX_READ_BYTES = 128 * 1024;
const PIECE_BYTES = 1024 * 1024;
const SECTOR_BYTES = 512;
const PAGE_BYTES = 4096;
const MAPPED_BYTES = 16 * 1024;
const STEPS_PER_TURN = 20;
const ALIVE_NS = 500e6;
/** What a saved machine starts with (QEMU_VM_FILE_MAGIC and QEMU_VM_FILE_VERSION, migration/savevm.c). */
const VM_STATE_START = Buffer.from('5145564d00000003', 'hex');

const [, , mountpoint, journalFolder, seed, number] = process.argv;
const snapshotsFolder = path.join(mountpoint, 'snapshots');
const random = new Random(Number(seed), Number(number));
const journal = new JournalReader(journalFolder);
const judge = new Judge(journal);
const buffer = Buffer.alloc(PIECE_BYTES);
const { O_DIRECT, O_RDONLY } = fs.constants;
/** `{fd, what, isDirect, sizeBytes, candidates, wasRead}` */
const openFiles = [];
let lastAlive = 0;
let isStopping = false;

process.stdin.on('end', () => {
  isStopping = true;
});
process.stdin.resume();

/** Each as often as its share says. */
const STEPS = [
  [12, listSnapshots],
  [15, () => withName(openDisk)],
  [60, () => readSomewhere(random.pick(openFiles))],
  [6, () => closeFile(random.pick(openFiles))],
  [3, () => withName(readInfo)],
  [2, () => withName(readVmState)],
  [1, () => withName(readWhole)],
  [1, () => withName(readMapped)],
];
const SHARES = STEPS.flatMap(([share, step]) => Array(share).fill(step));

while (!isStopping) {
  for (let count = 0; count < STEPS_PER_TURN; count++) {
    sayAlive();
    random.pick(SHARES)();
  }
  // For the end of stdin.
  await new Promise((resolve) => setImmediate(resolve));
}
await readWhatIsLeft();
fs.writeSync(1, `${JSON.stringify({ report: judge.report })}\n`);

function sayAlive() {
  if (now() - lastAlive < ALIVE_NS) return;
  lastAlive = now();
  fs.writeSync(1, '{}\n');
}

function listSnapshots() {
  const start = now();
  try {
    const names = fs.readdirSync(snapshotsFolder);
    judge.listed(names, start);
    return names;
  } catch (error) {
    judge.failed(error, snapshotsFolder, { isLookup: false });
    return [];
  }
}

/** A name from the record, listed by now or not, of a snapshot that exists or was deleted lately. */
function withName(step) {
  journal.update();
  const late = journal.snapshots.slice(-10).map(({ name }) => name);
  const live = journal.snapshots.filter(({ deleting }) => deleting === undefined).map(({ name }) => name);
  step(random.pick(random.chance(0.2) ? late : live));
}

function openDisk(name) {
  if (openFiles.length === MAX_OPEN_FILES) closeFile(openFiles[0]);
  const isDirect = random.chance(0.5);
  const file = openFile(name, 'disk.raw', isDirect ? O_DIRECT : 0);
  if (file === undefined) return;
  openFiles.push({ ...file, isDirect, wasRead: false });
}

/** `{fd, what, sizeBytes, candidates}`, or undefined if it cannot be opened. */
function openFile(name, fileName, flags) {
  const what = `${name}/${fileName}`;
  const start = now();
  let fd;
  try {
    fd = fs.openSync(path.join(snapshotsFolder, what), O_RDONLY | flags);
  } catch (error) {
    judge.failed(error, what, { isLookup: true });
    return undefined;
  }
  const candidates = judge.candidates(name, start);
  try {
    const { mtimeMs, size } = fs.fstatSync(fd);
    return { fd, what, sizeBytes: size, candidates: judge.dated(candidates, mtimeMs, what) };
  } catch (error) {
    // libfuse asks for the attributes of an open file by its path.
    judge.failed(error, what, { isLookup: true });
    fs.closeSync(fd);
    return undefined;
  }
}

function closeFile(file) {
  if (file === undefined) return;
  openFiles.splice(openFiles.indexOf(file), 1);
  fs.closeSync(file.fd);
}

function readSomewhere(file) {
  if (file === undefined) return;
  const unit = file.isDirect ? SECTOR_BYTES : 1;
  const length = unit * (1 + random.below(MAX_READ_BYTES / unit));
  const offset = unit * random.below(file.sizeBytes / unit);
  const isRead = readRange(file, offset, length);
  if (!isRead && file.wasRead) judge.counts.wentStale += 1;
  // Most are kept for a while: what is stale must stay so.
  if (!isRead && random.chance(0.3)) closeFile(file);
  file.wasRead = isRead;
}

/**
 * Returns true if all of it was read. A read through the page cache that fails in its middle returns what comes before that
 * (filemap_read in mm/filemap.c); the next one tells why.
 */
function readRange(file, offset, length) {
  const end = Math.min(offset + length, file.sizeBytes);
  for (let at = offset; at < end; ) {
    const count = readPiece(file, at, end - at);
    if (count === 0) judge.found('short', `${file.what} ends at ${at}, not at ${file.sizeBytes}`);
    if (count === 0 || count === undefined) return false;
    at += count;
  }
  return true;
}

/** Returns how many bytes there were, or undefined if that failed. */
function readPiece(file, offset, length) {
  const start = now();
  let count;
  try {
    count = fs.readSync(file.fd, buffer, 0, length, offset);
  } catch (error) {
    judge.failed(error, `${file.what}, ${length} bytes at ${offset}`, { isLookup: false });
    return undefined;
  }
  if (count === 0) return 0;
  journal.update();
  // Past the page cache, nothing comes from a snapshot that was deleted before it was asked for.
  const candidates = file.isDirect
    ? file.candidates.filter(({ deleted }) => deleted === undefined || deleted >= start)
    : file.candidates;
  const how = `${file.what}${file.isDirect ? ' (O_DIRECT)' : ''}`;
  file.candidates = judge.accept(candidates, offset, buffer.subarray(0, count), how);
  return count;
}

/** Returns true if it was read to its end. */
function readWhole(name) {
  const file = openFile(name, 'disk.raw', 0);
  if (file === undefined) return false;
  try {
    for (let offset = 0; offset < file.sizeBytes; offset += PIECE_BYTES) {
      sayAlive();
      if (!readRange(file, offset, PIECE_BYTES)) return false;
    }
    return true;
  } finally {
    fs.closeSync(file.fd);
  }
}

/** Through mmap(2). What cannot be read then is a SIGBUS, which tells no reason; a file past the page cache has ENODEV. */
function readMapped(name) {
  const start = now();
  const what = `${name}/disk.raw`;
  const file = path.join(snapshotsFolder, what);
  let sizeBytes;
  try {
    sizeBytes = fs.statSync(file).size;
  } catch (error) {
    judge.failed(error, what, { isLookup: true });
    return;
  }
  const offset = PAGE_BYTES * random.below((sizeBytes - MAPPED_BYTES) / PAGE_BYTES);
  const commands = [`mmap -r ${offset} ${MAPPED_BYTES}`, `mread -v ${offset} ${MAPPED_BYTES}`];
  const { error, signal, stderr, stdout } = spawnSync(
    'xfs_io',
    ['-r', ...commands.flatMap((each) => ['-c', each]), file],
    { encoding: 'latin1', env: { ...process.env, LC_ALL: 'C' }, timeout: PATIENCE_MS, killSignal: 'SIGKILL' },
  );
  if (error?.code === 'ETIMEDOUT') judge.found('hang', `${what}, mapped: it does not end`);
  else if (error !== undefined) throw error;
  else if (signal === 'SIGBUS' || /Stale file handle|No such (file|device)/.test(stderr)) judge.counts.mapsRefused += 1;
  else if (stderr !== '' || signal !== null) judge.found('error', `${what}, mapped: ${signal ?? stderr}`);
  else {
    judge.accept(judge.candidates(name, start), offset, bytesOfDump(stdout), `${what} (mmap)`);
    judge.counts.mappedReads += 1;
  }
}

/** Lines of `OFFSET:  HEX HEX …  TEXT`. */
function bytesOfDump(dump) {
  const digits = [...dump.matchAll(/^[0-9a-f]+: {2}((?:[0-9a-f]{2} ){1,16})/gm)].map(([, line]) => line);
  return Buffer.from(digits.join('').replaceAll(' ', ''), 'hex');
}

function readInfo(name) {
  try {
    const info = JSON.parse(fs.readFileSync(path.join(snapshotsFolder, name, 'info.json'), 'utf8'));
    if (info.name !== name) judge.found('info', `${name}/info.json says that it is ${info.name}`);
  } catch (error) {
    judge.failed(error, `${name}/info.json`, { isLookup: true });
  }
}

/** Its content is QEMU's own matter, except for how it starts. */
function readVmState(name) {
  if (!journal.named(name).at(-1)?.hasVmState) return;
  const file = openFile(name, 'vmstate.bin', O_DIRECT);
  if (file === undefined) return;
  try {
    const count = fs.readSync(file.fd, buffer, 0, PAGE_BYTES, 0);
    const start = buffer.subarray(0, Math.min(count, VM_STATE_START.length));
    if (!start.equals(VM_STATE_START))
      judge.found('wrong bytes', `${file.what} starts with 0x${start.toString('hex')}`);
  } catch (error) {
    judge.failed(error, file.what, { isLookup: false });
  } finally {
    fs.closeSync(file.fd);
  }
}

/** Nothing is written any more: the tree must show exactly what there is, and all of it can be read. */
async function readWhatIsLeft() {
  while (openFiles.length > 0) closeFile(openFiles[0]);
  journal.update();
  const left = journal.snapshots.filter(({ deleted }) => deleted === undefined).map(({ name }) => name);
  const wanted = left.sort().join(' ');
  const deadline = now() + PATIENCE_MS * 1e6;
  while (listSnapshots().sort().join(' ') !== wanted) {
    if (now() > deadline) {
      judge.found('behind', `the tree has not followed: it lists ${listSnapshots()}, and there are ${wanted}`);
      break;
    }
    sayAlive();
    await sleep(50);
  }
  for (const name of left) {
    if (!readWhole(name)) judge.found('unreadable', `${name} exists and cannot be read`);
  }
}
