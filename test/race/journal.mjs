/**
 * The record of a race, the truth that readers compare with: when each snapshot was created and deleted, and what it holds.
 *
 * The file `journal` has a line for each event, in the order of time; `content-KEY` has the epochs of the blocks of a
 * snapshot. A snapshot whose name is used again has another key. Whatever may be seen has been announced before: creation
 * and deletion have an event before QEMU is asked, and one after it has answered.
 */

import fs from 'node:fs';
import path from 'node:path';

/** CLOCK_MONOTONIC, which all processes share; in nanoseconds, exact up to 104 days after boot. */
export function now() {
  return Number(process.hrtime.bigint());
}

export class JournalWriter {
  #folder;
  #fd;
  #lastKey = 0;

  constructor(folder) {
    this.#folder = folder;
    this.#fd = fs.openSync(path.join(folder, 'journal'), 'a');
  }

  /** A snapshot is about to be created. Returns its key. */
  creating(name, epochs, hasVmState) {
    const key = ++this.#lastKey;
    fs.writeFileSync(path.join(this.#folder, `content-${key}`), epochs);
    this.#write({ event: 'creating', key, name, hasVmState });
    return key;
  }

  /** `dateMs` is the snapshot's own date. */
  created(key, dateMs) {
    this.#write({ event: 'created', key, dateMs });
  }

  deleting(key) {
    this.#write({ event: 'deleting', key });
  }

  deleted(key) {
    this.#write({ event: 'deleted', key });
  }

  close() {
    fs.closeSync(this.#fd);
  }

  #write(line) {
    fs.writeSync(this.#fd, `${JSON.stringify({ ...line, at: now() })}\n`);
  }
}

/**
 * Follows a journal that is being written. A snapshot is `{key, name, hasVmState, creating, created, dateMs, deleting,
 * deleted}`; what has not happened yet is undefined.
 */
export class JournalReader {
  #folder;
  #fd;
  #offset = 0;
  #rest = '';
  /** In the order of their keys. */
  #snapshots = new Map();
  #byName = new Map();
  #contents = new Map();

  constructor(folder) {
    this.#folder = folder;
    this.#fd = fs.openSync(path.join(folder, 'journal'), 'r');
  }

  /** Takes in all that has been written since. */
  update() {
    const piece = Buffer.alloc(64 * 1024);
    for (;;) {
      const count = fs.readSync(this.#fd, piece, 0, piece.length, this.#offset);
      if (count === 0) return;
      this.#offset += count;
      const lines = (this.#rest + piece.toString('latin1', 0, count)).split('\n');
      this.#rest = lines.pop();
      for (const line of lines) this.#apply(JSON.parse(line));
    }
  }

  get snapshots() {
    return [...this.#snapshots.values()];
  }

  named(name) {
    return this.#byName.get(name) ?? [];
  }

  /** The epochs of the blocks of a snapshot. */
  epochsOf({ key }) {
    let epochs = this.#contents.get(key);
    if (epochs === undefined) {
      const { buffer } = new Uint8Array(fs.readFileSync(path.join(this.#folder, `content-${key}`)));
      epochs = new Uint32Array(buffer);
      this.#contents.set(key, epochs);
    }
    return epochs;
  }

  #apply({ at, event, key, ...details }) {
    if (event === 'creating') {
      const snapshot = { key, ...details };
      this.#snapshots.set(key, snapshot);
      this.#byName.set(details.name, [...this.named(details.name), snapshot]);
    }
    Object.assign(this.#snapshots.get(key), details, { [event]: at });
  }
}
