/**
 * What the disk of a race holds is known by construction: every sector says when it was written and where it belongs. The
 * epochs of all blocks, one number for each, are the whole content of a state.
 */

export const BLOCK_BYTES = 4096;
const SECTOR_BYTES = 512;
/** The epoch of a block of zeros: never written, or zeroed. */
export const ZEROS = 0;
/** What the image starts with. */
export const FIRST_EPOCH = 1;
const MAGIC = 'RACE';
const STAMP_BYTES = 16;

/** The bytes of a range of a state. */
export function contentOf(epochs, offset, length) {
  const first = Math.floor(offset / SECTOR_BYTES);
  const end = Math.ceil((offset + length) / SECTOR_BYTES);
  const sectors = Buffer.alloc((end - first) * SECTOR_BYTES);
  const stamp = Buffer.alloc(STAMP_BYTES);
  for (let sector = first; sector < end; sector++) {
    const block = Math.floor((sector * SECTOR_BYTES) / BLOCK_BYTES);
    if (epochs[block] === ZEROS) continue;
    stamp.write(MAGIC, 'latin1');
    stamp.writeUInt32LE(epochs[block], 4);
    stamp.writeUInt32LE(block, 8);
    stamp.writeUInt32LE(sector, 12);
    const at = (sector - first) * SECTOR_BYTES;
    sectors.fill(stamp, at, at + SECTOR_BYTES);
  }
  return sectors.subarray(offset - first * SECTOR_BYTES).subarray(0, length);
}

/** Says where `bytes`, found at `offset`, differ first from the content of a state, or undefined if nowhere. */
export function differenceFrom(epochs, offset, bytes) {
  const expected = contentOf(epochs, offset, bytes.length);
  if (expected.equals(bytes)) return undefined;
  const at = bytes.findIndex((byte, index) => byte !== expected[index]);
  const wrongCount = bytes.reduce((count, byte, index) => count + (byte === expected[index] ? 0 : 1), 0);
  // From the start of the sector on, where its stamp is.
  const from = Math.max(0, at - ((offset + at) % SECTOR_BYTES));
  return `${wrongCount} of ${bytes.length} bytes from ${offset} on are wrong, first at ${offset + at}: expected ${describe(expected, from)}, got ${describe(bytes, from)}`;
}

function describe(bytes, at) {
  const stamp = bytes.subarray(at, at + STAMP_BYTES);
  if (stamp.length === STAMP_BYTES && stamp.toString('latin1', 0, MAGIC.length) === MAGIC) {
    return `block ${stamp.readUInt32LE(8)} of epoch ${stamp.readUInt32LE(4)}`;
  }
  return stamp.every((byte) => byte === 0) ? 'zeros' : `0x${stamp.toString('hex')}`;
}
