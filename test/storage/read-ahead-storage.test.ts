import { expect, test } from 'vitest';
import { Qcow2fsError } from '../../src/errors.ts';
import { BufferStorage } from '../../src/storage/buffer-storage.ts';
import { ReadAheadStorage } from '../../src/storage/read-ahead-storage.ts';
import type { Storage } from '../../src/storage/storage.ts';
import { CountingStorage } from '../support/counting-storage.ts';

const BYTES = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7 + (index >> 8)) % 251));

function read(storage: Storage, length: number, position: number): Buffer {
  const target = Buffer.alloc(length + 2, 0xee);
  const count = storage.readUpTo(target, 1, length, position);
  expect([target[0], target[count + 1]]).toEqual([0xee, 0xee]);
  return target.subarray(1, count + 1);
}

test.each([
  [40, 0],
  [40, 65_530],
  [100_000, 3],
  [40, 50_000],
  [40, 199_990],
  [40, 300_000],
  [0, 10],
])('%i bytes at %i are those of the storage below, up to its end', (length, position) => {
  const storage = new ReadAheadStorage(new BufferStorage(BYTES));
  read(storage, 40, 10);
  expect(read(storage, length, position)).toEqual(BYTES.subarray(position, position + length));
});

test('small reads one behind the other read the storage below once', () => {
  const below = new CountingStorage(BYTES);
  const storage = new ReadAheadStorage(below);
  for (let position = 0; position < 65_536; position += 64) read(storage, 64, position);
  expect(below.bytesRead).toBe(65_536);
});

test('what cannot be read behind the wanted bytes does not matter; an error in them is thrown', () => {
  const bad: Storage = {
    name: 'bad sector',
    sizeBytes: BYTES.length,
    readUpTo(target, targetOffset, length, position) {
      if (position + length > 4096) throw new Qcow2fsError('IO', `EIO at ${position}`);
      return BYTES.copy(target, targetOffset, position, position + length);
    },
  };
  const storage = new ReadAheadStorage(bad);
  expect(read(storage, 40, 4000)).toEqual(BYTES.subarray(4000, 4040));
  expect(() => read(storage, 40, 4080)).toThrow('EIO at 4080');
});
