import fs from 'node:fs';
import { expect, test } from 'vitest';
import { imageJsonPieces, maxImageJsonBytes } from '../../src/open-image/image-json.ts';
import { closeLayers } from '../../src/open-image/layers.ts';
import { openImageHeader } from '../../src/open-image/open-image.ts';
import { buildImage, encodeHeader, encodeSnapshotEntry, u64 } from '../fixtures/image-builder.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const TABLE = 4 << 16;
const MAX = 0xffff_ffff_ffff_ffffn;
const LARGE = BigInt(Number.MAX_SAFE_INTEGER);

test.each([
  ['no names', '', ''],
  ['control characters', '\x01'.repeat(200), '\x01'.repeat(200)],
  ['control characters and a byte that is not UTF-8', `\xff${'\x01'.repeat(50)}`, `\xff${'\x01'.repeat(20_000)}`],
  ['bytes that are not UTF-8', '\xff'.repeat(1000), '\xff'.repeat(20_000)],
])('the text has its place in the memory that is set aside for it: %s', (_, id, name) =>
  withTemporaryFolder((folder) => {
    const path = `${folder}/image.qcow2`;
    const extra = Buffer.concat([u64(LARGE), u64(LARGE), u64(MAX - 1n)]);
    const entry = encodeSnapshotEntry({ id, name, extra, dateSeconds: 0xffff_ffff, dateNanoseconds: 0xffff_ffff });
    // vm_clock_nsec.
    entry.fill(0xff, 24, 32);
    const entries = Array.from({ length: 20 }, () => entry);
    const header = encodeHeader({ snapshotCount: entries.length, snapshotsOffset: BigInt(TABLE) });
    const bytes = buildImage(2 << 20, [
      [0, header],
      [TABLE, Buffer.concat(entries)],
    ]);
    fs.writeFileSync(path, bytes);
    const image = openImageHeader(path);
    try {
      const text = [...imageJsonPieces(image, { onMissing: 'zero' })].join('');
      expect(JSON.parse(text)).toMatchObject({ onMissing: 'zero', snapshots: { length: 20 } });
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(maxImageJsonBytes(image, { onMissing: 'zero' }));
    } finally {
      closeLayers(image.layers);
    }
  }),
);
