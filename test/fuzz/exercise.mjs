/** Everything that a user can do with an image, on one that may be damaged in any way. */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { toJsonPieces } from '../../dist/common/json-pieces.js';
import { decodeName } from '../../dist/common/names.js';
import { createExtent, isSparse } from '../../dist/disk/disk.js';
import { seekData, seekHole } from '../../dist/disk/walk.js';
import { Qcow2fsError } from '../../dist/errors.js';
import { createUnlockSession } from '../../dist/luks/unlock-session.js';
import { checkImage } from '../../dist/open-image/check-image.js';
import { describeInfo, describeList } from '../../dist/open-image/describe-image.js';
import { listWithSpace } from '../../dist/open-image/describe-space.js';
import { diffTables } from '../../dist/open-image/diff-states.js';
import { withKeys } from '../../dist/open-image/layer-keys.js';
import { closeLayers, NO_CHAIN_OPTIONS } from '../../dist/open-image/layers.js';
import { mapState } from '../../dist/open-image/map-state.js';
import {
  closeImage,
  openImage,
  openImageChain,
  openImageHeader,
  snapshotsOf,
} from '../../dist/open-image/open-image.js';
import { StateDisks } from '../../dist/open-image/state-disks.js';
import { unlockEncryption } from '../../dist/qcow2/encryption.js';
import { FileStorage } from '../../dist/storage/file-storage.js';
import { PASSPHRASE } from './corpus.mjs';
import { recycleMemory } from './recycle-memory.mjs';

const LIMIT_MS = 1000;
const MAX_WAIT_MS = 20_000;
/** To ask for the CPU time before each step would take as long as the steps. */
const CPU_SAMPLE_MS = 10;
const MAX_STATES = 4;
/** Steps that open the files which an image names. */
const OPENING = ['open', 'map'];
const READ_BYTES = 32 * 1024;
const EXTENT_COUNT = 24;
/** LUKS headers that ask for more are opened all the same, up to MAX_PBKDF2_ROUNDS: work that the format is made for. */
const MAX_ROUNDS = 500_000;

const target = Buffer.alloc(READ_BYTES);
const again = Buffer.alloc(READ_BYTES);
const zeros = Buffer.alloc(READ_BYTES);
const extent = createExtent();
const nobody = () => undefined;

/** A broken promise; `step` is what was done. */
export class Finding extends Error {
  constructor(step, message, options) {
    super(`${step}: ${message}`, options);
  }
}

/** Descriptors that are open, in this thread: any that the code forgets is found in the very case that leaks it. */
const openDescriptors = new Set();
const { openSync, closeSync } = fs;
fs.openSync = (...args) => {
  const fd = openSync(...args);
  openDescriptors.add(fd);
  return fd;
};
fs.closeSync = (fd) => {
  closeSync(fd);
  openDescriptors.delete(fd);
};

export const slowest = { milliseconds: 0, step: '' };

let cpuSample = process.cpuUsage();
let cpuSampledAt = performance.now();

/** The CPU time at `now`, or up to CPU_SAMPLE_MS before. */
function recentCpuUsage(now) {
  if (now - cpuSampledAt > CPU_SAMPLE_MS) {
    cpuSample = process.cpuUsage();
    cpuSampledAt = now;
  }
  return cpuSample;
}

/** On a busy machine a step may wait for a processor: that time is not its own. But it must not wait for anything else. */
function isSlow(milliseconds, { user, system }) {
  return (user + system) / 1000 > LIMIT_MS || milliseconds > MAX_WAIT_MS;
}

/**
 * `keys` are those of the healthy image if nothing that they come from was touched. `witness` notes what was read of the current state. Returns a digest of all that was read,
 * or undefined if anything failed.
 * @throws Finding
 */
export function exercise(path, random, keys, witness) {
  recycleMemory();
  const before = openDescriptors.size;
  let isWhole = true;
  const step = (name, action) => {
    const started = performance.now();
    const cpuAtStart = recentCpuUsage(started);
    try {
      return action();
    } catch (error) {
      if (error instanceof Finding) throw error;
      isWhole = false;
      if (!(error instanceof Qcow2fsError) || error.code === 'INTERNAL') {
        throw new Finding(name, `it throws ${error?.stack ?? error}`, { cause: error });
      }
      // Only the names of backing files may lead to what the operating system refuses.
      if (error.code === 'IO' && !OPENING.includes(name)) throw new Finding(name, error.stack);
      return undefined;
    } finally {
      const milliseconds = performance.now() - started;
      if (milliseconds > slowest.milliseconds) Object.assign(slowest, { milliseconds, step: name });
      if (milliseconds > LIMIT_MS && isSlow(milliseconds, process.cpuUsage(cpuAtStart))) {
        isWhole = new Finding(name, `it takes ${Math.round(milliseconds)} ms`);
      }
    }
  };
  const hash = createHash('sha256');
  const header = step('list', () => {
    const image = openImageHeader(path);
    closeLayers(image.layers);
    [...toJsonPieces(describeList(image))];
    [...toJsonPieces(describeInfo(image))];
    return image;
  });
  if (header !== undefined) {
    step('info', () => {
      const image = openImageChain(path);
      closeLayers(image.layers);
      [...toJsonPieces(describeInfo(image))];
    });
    step('space', () => [...toJsonPieces(listWithSpace(path, nobody))]);
    const last = `id:${decodeName(snapshotsOf(header).at(0)?.entry.id ?? '').text}`;
    step('map', () => [...mapState(path, 'current', { chain: NO_CHAIN_OPTIONS, writerOf: nobody }).entries]);
    if (snapshotsOf(header).length > 0) {
      step('map', () => [...mapState(path, last, { chain: NO_CHAIN_OPTIONS, writerOf: nobody }).entries]);
      step('diff', () => [...diffTables(path, 'current', last, nobody).ranges]);
    }
    const source = keys === undefined ? withPassphrase() : withKeys(keys);
    const image = roundsOf(header) > MAX_ROUNDS ? undefined : step('open', () => openImage(path, source));
    if (image !== undefined) {
      readStates(image, random, step, hash, witness);
      closeImage(image);
    }
  }
  step('check', () => checkImage(path));
  if (openDescriptors.size !== before) {
    const leaked = [...openDescriptors];
    for (const fd of leaked) fs.closeSync(fd);
    throw new Finding('close', `file descriptors leak: ${leaked.join(', ')}`);
  }
  if (isWhole instanceof Finding) throw isWhole;
  return isWhole ? hash.digest('hex') : undefined;
}

/** That of the corpus, for all layers. */
function withPassphrase() {
  const session = createUnlockSession();
  const passphrase = Buffer.from(PASSPHRASE);
  return ({ file, qcow2 }) => unlockEncryption(new FileStorage(file), qcow2.encryption, passphrase, session);
}

function readStates(image, random, step, hash, witness) {
  const disks = step('states', () => new StateDisks(image));
  if (disks === undefined) return;
  const count = snapshotsOf(image).length + 1;
  const chosen = Array.from({ length: Math.min(count, MAX_STATES) }, (_, index) =>
    index === 0 || count <= MAX_STATES ? index : 1 + random.below(count - 1),
  );
  for (const state of chosen) {
    const disk = step('disk', () => disks.disk(state));
    if (disk !== undefined) readDisk(disk, random, step, hash, state === 0 ? witness : undefined);
    const vmState = state === 0 ? undefined : step('vmState', () => disks.vmState(state));
    if (vmState !== undefined && vmState.sizeBytes > 0) readDisk(vmState, random, step, hash);
  }
}

function readDisk(disk, random, step, hash, witness) {
  const { sizeBytes } = disk;
  if (!Number.isSafeInteger(sizeBytes)) throw new Finding('disk', `its size is ${sizeBytes}`);
  const places = [0, Math.max(0, sizeBytes - READ_BYTES), ...[0, 0, 0].map(() => random.below(sizeBytes))];
  for (const offset of places) {
    const length = Math.min(READ_BYTES, sizeBytes - offset);
    if (length > 0) readRange(disk, offset, length, step, hash, witness);
  }
  walkExtents(disk, step, hash, witness);
  for (const offset of places.slice(0, 3)) {
    if (offset >= sizeBytes) continue;
    const data = step('seekData', () => seekData(disk, offset));
    const hole = step('seekHole', () => seekHole(disk, offset));
    if (data !== undefined && (data < offset || data >= sizeBytes)) throw new Finding('seekData', `${offset}: ${data}`);
    if (hole !== undefined && (hole < offset || hole > sizeBytes)) throw new Finding('seekHole', `${offset}: ${hole}`);
    hash.update(`${offset} ${data} ${hole} `);
  }
  const allocated = step('allocatedBytes', () => disk.allocatedBytes());
  if (allocated !== undefined && !(allocated >= 0 && allocated <= sizeBytes)) {
    throw new Finding('allocatedBytes', `${allocated} of ${sizeBytes}`);
  }
  hash.update(`${allocated} `);
}

function readRange(disk, offset, length, step, hash, witness) {
  target.fill(0xa5);
  const isRead = step('readAt', () => disk.readAt(target, 0, offset, length) ?? true);
  if (isRead === undefined) return;
  hash.update(target.subarray(0, length));
  witness?.note(offset, target.subarray(0, length));
  // The same bytes in two pieces.
  const middle = Math.floor(length / 3);
  again.fill(0x5a);
  step('readAt', () => {
    disk.readAt(again, 0, offset, middle);
    disk.readAt(again, middle, offset + middle, length - middle);
  });
  if (target.compare(again, 0, length, 0, length) !== 0) throw new Finding('readAt', `two reads of ${offset} differ`);
}

/** Extents have a length, and what they say is what a read says. */
function walkExtents(disk, step, hash, witness) {
  let offset = 0;
  for (let count = 0; count < EXTENT_COUNT && offset < disk.sizeBytes; count++) {
    const rest = disk.sizeBytes - offset;
    if (step('extentAt', () => disk.extentAt(offset, rest, extent) ?? true) === undefined) return;
    const { kind, lengthBytes } = extent;
    if (!(lengthBytes > 0 && lengthBytes <= rest)) throw new Finding('extentAt', `${lengthBytes} bytes at ${offset}`);
    const length = Math.min(lengthBytes, READ_BYTES);
    target.fill(0xa5);
    const isRead = step('readAt', () => disk.readAt(target, 0, offset, length) ?? true);
    if (kind === 'damaged' && isRead !== undefined) throw new Finding('readAt', `damage at ${offset} can be read`);
    if (isSparse(kind) && (isRead === undefined || target.compare(zeros, 0, length, 0, length) !== 0)) {
      throw new Finding('readAt', `the ${kind} at ${offset} is not read as zeros`);
    }
    if (isRead !== undefined) witness?.note(offset, target.subarray(0, length));
    hash.update(`${offset} ${kind} `);
    offset += lengthBytes;
  }
}

function roundsOf({ qcow2: { encryption } }) {
  if (encryption?.format !== 'luks') return 0;
  const { keySlots, masterKeyIterations } = encryption.volume.header;
  const active = keySlots.filter(({ isActive }) => isActive);
  return active.reduce((sum, { iterations }) => sum + iterations + masterKeyIterations, 0);
}
