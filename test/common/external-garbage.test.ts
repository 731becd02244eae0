import zlib from 'node:zlib';
import { expect, test } from 'vitest';
import { countGarbage } from '../../src/common/external-garbage.ts';

const MIB = 2 ** 20;
const BYTES = 64 * 1024;

test('memory outside the heap does not pile up', () => {
  const stored = zlib.deflateRawSync(Buffer.alloc(BYTES));
  let most = 0;
  const before = process.memoryUsage().arrayBuffers;
  for (let call = 0; call < 2_000; call++) {
    countGarbage(zlib.inflateRawSync(stored).length);
    if (call % 20 === 0) most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  // Without a collection it is 30 to 60 MiB.
  expect(most).toBeLessThan(16 * MIB);
});
