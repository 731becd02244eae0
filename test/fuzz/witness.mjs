/** What QEMU reads of the same damaged image: the bytes that were read here must be those. */

import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { PASSPHRASE } from './corpus.mjs';

const MAX_READS = 10;
const MAX_READ_BYTES = 4096;
const PATIENCE_MS = 10_000;

/** Some of the reads of one state, with the bytes that they gave. */
export class Witness {
  reads = [];

  note(offset, bytes) {
    if (this.reads.length >= MAX_READS) return;
    this.reads.push({ offset, bytes: Buffer.from(bytes.subarray(0, MAX_READ_BYTES)) });
  }

  /**
   * Returns how many reads QEMU confirms; what it refuses says nothing, as it opens less than this program does and stops
   * at the first table that it does not like.
   * @throws Error for bytes that are not QEMU's.
   */
  ask(file, isEncrypted) {
    const commands = this.reads.flatMap(({ offset, bytes }) => ['-c', `read -v ${offset} ${bytes.length}`]);
    if (commands.length === 0) return 0;
    const image = isEncrypted
      ? [
          ...['--object', `secret,id=s0,data=${PASSPHRASE}`],
          ...['--image-opts', `driver=qcow2,encrypt.key-secret=s0,file.filename=${file}`],
        ]
      : ['-f', 'qcow2', file];
    const { stdout, error } = spawnSync('qemu-io', ['-r', ...commands, ...image], {
      // QEMU looks for a data file in the working directory.
      cwd: path.dirname(file),
      encoding: 'latin1',
      maxBuffer: 16 * 2 ** 20,
      timeout: PATIENCE_MS,
    });
    if (error?.code === 'ETIMEDOUT') return 0;
    if (error !== undefined) throw error;
    const known = parseDumps(stdout);
    let confirmed = 0;
    for (const { offset, bytes } of this.reads) {
      const theirs = known.get(offset);
      if (theirs === undefined || theirs.length !== bytes.length) continue;
      if (theirs.compare(bytes) !== 0) throw new Error(`other bytes than QEMU reads at ${offset}`);
      confirmed += 1;
    }
    return confirmed;
  }
}

/** The dumps of `read -v`, each followed by a line that says where it was; by offset. */
function parseDumps(output) {
  const dumps = new Map();
  let lines = [];
  for (const line of output.split('\n')) {
    const bytes = /^[0-9a-f]{8,}: {2}((?:[0-9a-f]{2} )+)/.exec(line)?.[1];
    const done = /^read (\d+)\/\1 bytes at offset (\d+)$/.exec(line);
    if (bytes !== undefined) lines.push(bytes);
    else if (done !== null) {
      dumps.set(Number(done[2]), Buffer.from(lines.join('').replaceAll(' ', ''), 'hex'));
      lines = [];
    } else if (line.startsWith('read failed')) lines = [];
  }
  return dumps;
}
