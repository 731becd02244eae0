/** What the machine of a race does all the time: it writes, takes snapshots and deletes some. */

import { setTimeout as sleep } from 'node:timers/promises';
import { BLOCK_BYTES, contentOf, FIRST_EPOCH, ZEROS } from './blocks.mjs';

const MIN_SNAPSHOTS = 3;
const MAX_SNAPSHOTS = 7;
const MAX_RANGES = 6;
const MAX_RANGE_BLOCKS = 32;
/** Without a rest now and then, no snapshot would live until the tree has it. */
const MAX_BURST_CYCLES = 24;
const REST_MS = 1200;
/** Used again and again. */
const REUSED_NAME = 'daily';

export class Driver {
  #machine;
  #journal;
  #random;
  #epochs;
  #hasVmState;
  #epoch = FIRST_EPOCH;
  /** `{key, name}`, oldest first: the order of QEMU's table. */
  #live = [];
  #restAfter = 0;
  cycles = 0;
  /** Snapshots that took the name, the id and the places in the file of one deleted just before. */
  twinCount = 0;

  /** `epochs` is what the disk holds. With `hasVmState`, some snapshots have VM state. */
  constructor(machine, journal, random, epochs, hasVmState) {
    this.#machine = machine;
    this.#journal = journal;
    this.#random = random;
    this.#epochs = epochs;
    this.#hasVmState = hasVmState;
  }

  /** Snapshots that exist: `{key, name}`. */
  get live() {
    return this.#live;
  }

  /** Creates one snapshot, and deletes one or none before that. */
  async cycle() {
    const random = this.#random;
    await this.#write();
    const newest = this.#live.at(-1);
    if (newest !== undefined && this.#live.length >= MIN_SNAPSHOTS && random.chance(0.3)) {
      // The newest deleted and created: QEMU gives the same id, and the same places for its tables, to another content.
      await this.#delete(newest);
      if (random.chance(0.7)) await this.#write();
      await this.#create(newest.name);
      this.twinCount += 1;
    } else {
      const isFull = this.#live.length >= MAX_SNAPSHOTS;
      if (isFull || (this.#live.length > MIN_SNAPSHOTS && random.chance(0.5))) await this.#delete(this.#victim());
      const isTaken = this.#live.some(({ name }) => name === REUSED_NAME);
      await this.#create(isTaken || random.chance(0.6) ? `epoch-${this.#epoch}` : REUSED_NAME);
    }
    this.cycles += 1;
  }

  /** Lets readers catch up now and then. */
  async rest() {
    if (this.cycles < this.#restAfter) return;
    this.#restAfter = this.cycles + 1 + this.#random.below(MAX_BURST_CYCLES);
    await sleep(REST_MS);
  }

  async #write() {
    const random = this.#random;
    this.#epoch += 1;
    for (let count = 1 + random.below(MAX_RANGES); count > 0; count--) {
      const first = random.below(this.#epochs.length);
      const end = Math.min(this.#epochs.length, first + 1 + random.below(MAX_RANGE_BLOCKS));
      const [offset, length] = [first * BLOCK_BYTES, (end - first) * BLOCK_BYTES];
      const isZeroed = random.chance(0.1);
      this.#epochs.fill(isZeroed ? ZEROS : this.#epoch, first, end);
      if (isZeroed) await this.#machine.writeZeros(offset, length);
      else await this.#machine.write(offset, contentOf(this.#epochs, offset, length));
    }
  }

  /** Mostly a young one, so that some snapshots live long. */
  #victim() {
    const index = this.#random.chance(0.8) ? this.#live.length - 1 - this.#random.below(3) : 0;
    return this.#live[index];
  }

  async #create(name) {
    const hasVmState = this.#hasVmState && this.#random.chance(0.3);
    const key = this.#journal.creating(name, this.#epochs, hasVmState);
    if (hasVmState) await this.#machine.saveMachine(name);
    else await this.#machine.createSnapshot(name);
    const made = (await this.#machine.snapshots()).filter((snapshot) => snapshot.name === name);
    if (made.length !== 1) throw new Error(`QEMU has ${made.length} snapshots called ${name}`);
    this.#journal.created(key, made[0].dateMs);
    this.#live.push({ key, name });
  }

  async #delete(snapshot) {
    this.#journal.deleting(snapshot.key);
    await this.#machine.deleteSnapshot(snapshot.name);
    this.#journal.deleted(snapshot.key);
    this.#live.splice(this.#live.indexOf(snapshot), 1);
  }
}
