/** From a passphrase to the key of a LUKS1 volume ("LUKS On-Disk Format Specification", section "Master key recovery"). */

import { pbkdf2Sync, timingSafeEqual } from 'node:crypto';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { readExactly, type Storage } from '../storage/storage.ts';
import { mergeStripes } from './af-split.ts';
import { type CipherSpec, parseCipherSpec } from './cipher-spec.ts';
import { type Hash, requireHash } from './hashes.ts';
import { KEY_STRIPES, LONG_DIGEST_ROUNDS, MAX_PBKDF2_ROUNDS, SECTOR_BYTES } from './limits.ts';
import type { LuksVolume } from './luks-volume.ts';
import type { Pbkdf2Budget } from './pbkdf2-budget.ts';
import { createSectorCipher } from './sector-cipher.ts';
import { createUnlockSession, type UnlockSession } from './unlock-session.ts';
import { toVolumeKey, type VolumeKey } from './volume-key.ts';
import { LUKS_DIGESTSIZE, type LuksHeader, type LuksKeySlot } from './wire/luks-header.ts';

const SHA256_DIGEST_BYTES = 32;

/** What a header asks for, as far as it is supported. */
export interface LuksAlgorithms {
  readonly spec: CipherSpec;
  readonly hash: Hash;
}

/** @throws Qcow2fsError UNSUPPORTED, naming the file and the cipher or hash. */
export function luksAlgorithmsOf(fileName: string, header: LuksHeader): LuksAlgorithms {
  try {
    return luksAlgorithms(header);
  } catch (cause) {
    if (!(cause instanceof Qcow2fsError)) throw cause;
    const data = { ...cause.data, file: fileName };
    throw new Qcow2fsError(cause.code, `${fileName}: ${cause.message}`, { data, cause });
  }
}

/** @throws Qcow2fsError UNSUPPORTED, naming the cipher or hash. */
export function luksAlgorithms({ cipherName, cipherMode, hashSpec, keyBytes }: LuksHeader): LuksAlgorithms {
  return { spec: parseCipherSpec(cipherName, cipherMode, keyBytes), hash: requireHash(hashSpec) };
}

/**
 * Tries the passphrase on each key slot that is in use, and then what else it may mean. A damaged slot does not keep the
 * others from being tried.
 * @throws Qcow2fsError LOCKED when no slot opens; UNSUPPORTED for a cipher or hash; DAMAGED when the header asks for more
 * work than any real one does, alone or with those that were opened in the session before it, or when no slot opens and one
 * of them is damaged; IO.
 */
export function unlockLuksVolume(
  storage: Storage,
  volume: LuksVolume,
  passphrase: Buffer,
  session: UnlockSession = createUnlockSession(),
): VolumeKey {
  const { header } = volume;
  const algorithms = luksAlgorithmsOf(storage.name, header);
  const data = { file: storage.name };
  if (!header.keySlots.some(({ isActive }) => isActive)) {
    throw new Qcow2fsError('LOCKED', `${storage.name}: no key slot is in use: nothing can decrypt it`, { data });
  }
  refuseEndlessWork(storage, header, algorithms);
  const problems = new Map<number, string>();
  for (const reading of session.readings.of(passphrase)) {
    const key = openAnyKeySlot(storage, volume, algorithms, { passphrase: reading, budget: session.budget }, problems);
    if (key === undefined) continue;
    session.readings.noteOpened(passphrase, reading);
    return toVolumeKey(algorithms.spec, key);
  }
  if (problems.size > 0) {
    const damage = [...problems].map(([slot, problem]) => `key slot ${slot}: ${problem}`).join('; ');
    throw new Qcow2fsError('DAMAGED', `${storage.name}: the passphrase opens no key slot; ${damage}`, { data });
  }
  throw new Qcow2fsError('LOCKED', `${storage.name}: the passphrase is wrong: it opens no key slot`, { data });
}

function refuseEndlessWork(storage: Storage, header: LuksHeader, { hash }: LuksAlgorithms): void {
  const rounds = header.keySlots
    .filter(({ isActive }) => isActive)
    .reduce((sum, slot) => sum + roundsOfSlot(header, slot, hash), 0);
  if (rounds <= MAX_PBKDF2_ROUNDS) return;
  throw new Qcow2fsError(
    'DAMAGED',
    `${storage.name}: its LUKS header asks for PBKDF2 with ${hash.name} that is worth ${rounds} rounds of SHA-256, ` +
      `more than ${MAX_PBKDF2_ROUNDS}: the header is damaged or made to waste time`,
    { data: { file: storage.name, rounds } },
  );
}

/** What trying a passphrase on a slot is worth in rounds of SHA-256. */
function roundsOfSlot(header: LuksHeader, { iterations }: LuksKeySlot, { digestBytes }: Hash): number {
  const weight = digestBytes > SHA256_DIGEST_BYTES ? LONG_DIGEST_ROUNDS : 1;
  const slotRounds = iterations * Math.ceil(header.keyBytes / digestBytes);
  const digestRounds = header.masterKeyIterations * Math.ceil(LUKS_DIGESTSIZE / digestBytes);
  return weight * (slotRounds + digestRounds);
}

/** The key, or undefined if no slot opens; what is wrong with slots goes to `problems`, by their numbers. */
function openAnyKeySlot(
  storage: Storage,
  volume: LuksVolume,
  algorithms: LuksAlgorithms,
  { passphrase, budget }: { readonly passphrase: Buffer; readonly budget: Pbkdf2Budget },
  problems: Map<number, string>,
): Buffer | undefined {
  for (const [index, slot] of volume.header.keySlots.entries()) {
    if (!slot.isActive) continue;
    // Outside of `try`: a budget that is spent is no problem of this slot, behind which the next one could be tried.
    budget.spend(roundsOfSlot(volume.header, slot, algorithms.hash), storage.name);
    try {
      const key = openKeySlot(storage, volume, slot, algorithms, passphrase);
      if (key !== undefined) return key;
    } catch (error) {
      if (!(error instanceof Qcow2fsError) || error.code === 'IO') throw error;
      problems.set(index, messageOf(error));
    }
  }
  return undefined;
}

/** The key, or undefined if the passphrase is not that of the slot. */
function openKeySlot(
  storage: Storage,
  volume: LuksVolume,
  slot: LuksKeySlot,
  algorithms: LuksAlgorithms,
  passphrase: Buffer,
): Buffer | undefined {
  const { header } = volume;
  const { hash, spec } = algorithms;
  const stripes = readKeyMaterial(storage, volume, slot);
  const slotKey = pbkdf2Sync(passphrase, slot.salt, slot.iterations, header.keyBytes, hash.name);
  const key = mergeAndForget(decryptKeyMaterial(stripes, spec, slotKey), header.keyBytes, hash);
  let isKey = false;
  try {
    const digest = pbkdf2Sync(key, header.masterKeySalt, header.masterKeyIterations, LUKS_DIGESTSIZE, hash.name);
    isKey = timingSafeEqual(digest, header.masterKeyDigest);
    return isKey ? key : undefined;
  } finally {
    if (!isKey) key.fill(0);
  }
}

function mergeAndForget(stripes: Buffer, keyBytes: number, hash: Hash): Buffer {
  try {
    return mergeStripes(stripes, keyBytes, hash);
  } finally {
    stripes.fill(0);
  }
}

/** @throws Qcow2fsError DAMAGED or PAST_END when the slot leads out of the header's area. */
function readKeyMaterial(storage: Storage, volume: LuksVolume, slot: LuksKeySlot): Buffer {
  const fail = (what: string): never => {
    throw new Qcow2fsError('DAMAGED', what, { data: { file: storage.name } });
  };
  if (slot.stripes !== KEY_STRIPES) fail(`it has ${slot.stripes} stripes, not ${KEY_STRIPES}`);
  if (slot.iterations === 0) fail('it has 0 iterations');
  const length = volume.header.keyBytes * KEY_STRIPES;
  const within = slot.keyMaterialOffset * SECTOR_BYTES;
  if (within + length > volume.lengthBytes) {
    fail(
      `its key material at byte ${within} (${length} bytes) does not lie in the header of ${volume.lengthBytes} bytes`,
    );
  }
  // The last sector may be half a sector: 4000 keys of 24 bytes.
  const stripes = Buffer.alloc(Math.ceil(length / SECTOR_BYTES) * SECTOR_BYTES);
  readExactly(storage, stripes, 0, length, volume.offset + within, 'the key material');
  return stripes;
}

/** Encrypted as the payload is, in sectors from 0 on. */
function decryptKeyMaterial(stripes: Buffer, spec: CipherSpec, slotKey: Buffer): Buffer {
  try {
    return createSectorCipher(spec, slotKey)
      .decrypt(stripes, 0)
      .subarray(0, spec.keyBytes * KEY_STRIPES);
  } finally {
    slotKey.fill(0);
  }
}
