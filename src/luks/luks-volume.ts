/** Reads the header of a LUKS1 volume and checks what everything else relies on. */

import { Qcow2fsError } from '../errors.ts';
import { readExactly, type Storage } from '../storage/storage.ts';
import { MAX_KEY_BYTES } from './limits.ts';
import { decodeLuksHeader, LUKS_MAGIC, LUKS_PHDR_BYTES, LUKS_VERSION_1, type LuksHeader } from './wire/luks-header.ts';

/** A volume header with the area of the file that holds it and the key slots behind it; plain data. */
export interface LuksVolume {
  readonly offset: number;
  readonly lengthBytes: number;
  readonly header: LuksHeader;
}

/**
 * Reads the header at `offset`; nothing outside of the `lengthBytes` bytes from there on is ever read. Whether its cipher
 * is supported, and the key slots, are not judged here: who only lists an image needs neither.
 * @throws Qcow2fsError DAMAGED, PAST_END, UNSUPPORTED (another version) or IO.
 */
export function readLuksVolume(storage: Storage, offset: number, lengthBytes: number): LuksVolume {
  const fail = (what: string): never => {
    throw new Qcow2fsError('DAMAGED', `${storage.name}: the LUKS header at offset ${offset} ${what}`, {
      data: { file: storage.name, offset },
    });
  };
  if (lengthBytes < LUKS_PHDR_BYTES) fail(`has only ${lengthBytes} bytes, but needs ${LUKS_PHDR_BYTES}`);
  const bytes = Buffer.alloc(LUKS_PHDR_BYTES);
  readExactly(storage, bytes, 0, LUKS_PHDR_BYTES, offset, 'the LUKS header');
  const header = decodeLuksHeader(bytes);
  if (header.magic !== LUKS_MAGIC) fail('does not start with "LUKS\\xba\\xbe"');
  if (header.version !== LUKS_VERSION_1) {
    throw new Qcow2fsError('UNSUPPORTED', `${storage.name}: LUKS version ${header.version} is not supported, only 1`, {
      data: { file: storage.name, version: header.version },
    });
  }
  if (header.keyBytes === 0 || header.keyBytes > MAX_KEY_BYTES) {
    fail(`has a key of ${header.keyBytes} bytes, but must have 1 to ${MAX_KEY_BYTES}`);
  }
  if (header.masterKeyIterations === 0) fail('has a digest of the key with 0 iterations');
  return { offset, lengthBytes, header };
}
