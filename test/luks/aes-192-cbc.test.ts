/**
 * AES-192 in CBC: its stripes end in half a sector, and QEMU 7.2 aborts when it makes such an image. So the volume is
 * made here, as cryptsetup makes it.
 */

import { createCipheriv, pbkdf2Sync } from 'node:crypto';
import { expect, test } from 'vitest';
import { mergeStripes } from '../../src/luks/af-split.ts';
import { requireHash } from '../../src/luks/hashes.ts';
import { readLuksVolume } from '../../src/luks/luks-volume.ts';
import { unlockLuksVolume } from '../../src/luks/unlock.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { Random } from '../oracle/random.ts';

const KEY_BYTES = 24;
const STRIPES = 4000;
const ITERATIONS = 10;
const KEY_MATERIAL_SECTOR = 8;

test('the last half of a sector of the stripes counts', () => {
  const key = Buffer.from('a master key of 24 bytes');
  const random = new Random(192);
  const stripes = random.bytes(KEY_BYTES * STRIPES);
  // The last stripe is chosen so that the merge gives the key.
  stripes.fill(0, KEY_BYTES * (STRIPES - 1));
  const merged = mergeStripes(stripes, KEY_BYTES, requireHash('sha1'));
  for (let index = 0; index < KEY_BYTES; index++) {
    stripes[KEY_BYTES * (STRIPES - 1) + index] = (merged[index] ?? 0) ^ (key[index] ?? 0);
  }

  const salt = Buffer.alloc(32, 7);
  const slotKey = pbkdf2Sync('geheim', salt, ITERATIONS, KEY_BYTES, 'sha1');
  const volume = Buffer.alloc(256 * 1024);
  volume.write('LUKS\xba\xbe', 'latin1');
  volume.writeUInt16BE(1, 6);
  volume.write('aes', 8);
  volume.write('cbc-plain64', 40);
  volume.write('sha1', 72);
  volume.writeUInt32BE(KEY_BYTES, 108);
  pbkdf2Sync(key, salt, ITERATIONS, 20, 'sha1').copy(volume, 112);
  salt.copy(volume, 132);
  volume.writeUInt32BE(ITERATIONS, 164);
  volume.writeUInt32BE(0x00ac71f3, 208);
  volume.writeUInt32BE(ITERATIONS, 212);
  salt.copy(volume, 216);
  volume.writeUInt32BE(KEY_MATERIAL_SECTOR, 248);
  volume.writeUInt32BE(STRIPES, 252);
  for (let sector = 0; sector * 512 < stripes.length; sector++) {
    const iv = Buffer.alloc(16);
    iv.writeUInt32LE(sector);
    const cipher = createCipheriv('aes-192-cbc', slotKey, iv).setAutoPadding(false);
    cipher
      .update(stripes.subarray(sector * 512, (sector + 1) * 512))
      .copy(volume, (KEY_MATERIAL_SECTOR + sector) * 512);
  }

  const storage = new BufferStorage(volume);
  const found = unlockLuksVolume(storage, readLuksVolume(storage, 0, volume.length), Buffer.from('geheim'));
  expect(Buffer.from(found.memory).equals(key)).toBe(true);
});
