/** Decides whether what a reader got is what the record of the race allows, and counts. */

import os from 'node:os';
import { differenceFrom } from './blocks.mjs';
import { now } from './journal.mjs';

/** Of each kind; the others are only counted. */
const MAX_DETAILS = 3;
/** fuse-native passes milliseconds on, as a floating point number. */
const DATE_TOLERANCE_MS = 2;
/** libuv has no name for it. */
const ESTALE = -os.constants.errno.ESTALE;
/** Same as for a hang: the tree is meant to follow within a second, and a busy machine may keep a reader from running. */
export const PATIENCE_MS = 10_000;

/** What a reader counts. */
export const NO_COUNTS = {
  acceptedReads: 0,
  acceptedBytes: 0,
  mappedReads: 0,
  wentStale: 0,
  stale: 0,
  missing: 0,
  mapsRefused: 0,
  lists: 0,
  behindMs: 0,
};

export class Judge {
  #journal;
  #readKeys = new Set();
  #details = [];
  counts = { ...NO_COUNTS };
  findingCounts = {};

  constructor(journal) {
    this.#journal = journal;
  }

  get report() {
    const { counts, findingCounts } = this;
    return { counts, findingCounts, details: this.#details, readKeys: [...this.#readKeys] };
  }

  /** Something that must not happen. */
  found(kind, text) {
    this.findingCounts[kind] = (this.findingCounts[kind] ?? 0) + 1;
    if (this.findingCounts[kind] <= MAX_DETAILS) this.#details.push(`${kind}: ${text}`);
  }

  /** An operation on `what` failed: a deleted snapshot may only be stale, or be gone where it is looked up by name. */
  failed(error, what, { isLookup }) {
    if (error.errno === ESTALE) this.counts.stale += 1;
    else if (error.code === 'ENOENT' && isLookup) this.counts.missing += 1;
    else this.found('error', `${what}: ${error.code ?? error.message}`);
  }

  /** The snapshots that a folder of this name, looked up since `start`, can be. */
  candidates(name, start) {
    const end = now();
    this.#journal.update();
    return this.#journal
      .named(name)
      .filter(({ creating, deleted }) => creating <= end && (deleted === undefined || deleted >= start));
  }

  /** Those that have this date; `what` is found to have a wrong one if there were some and none is left. */
  dated(candidates, modifiedMs, what) {
    const left = candidates.filter(
      ({ dateMs }) => dateMs === undefined || Math.abs(dateMs - modifiedMs) < DATE_TOLERANCE_MS,
    );
    if (candidates.length > 0 && left.length === 0) {
      const dates = candidates.map(({ dateMs }) => dateMs).join(' or ');
      this.found('date', `${what} is of ${modifiedMs}, not of ${dates} (milliseconds since 1970)`);
    }
    return left;
  }

  /** Judges bytes at `offset` of `what` (`NAME/disk.raw`), and returns the candidates whose bytes they are. */
  accept(candidates, offset, bytes, what) {
    const left = candidates.filter((snapshot) => this.#difference(snapshot, offset, bytes) === undefined);
    if (left.length === 0) {
      this.#refuse(candidates, offset, bytes, what);
      return candidates;
    }
    this.counts.acceptedReads += 1;
    this.counts.acceptedBytes += bytes.length;
    for (const { key } of left) this.#readKeys.add(key);
    return left;
  }

  /** Judges the names of the snapshots as they were listed between `start` and now. */
  listed(names, start) {
    const end = now();
    this.#journal.update();
    this.counts.lists += 1;
    for (const name of names) {
      const same = this.#journal.named(name).filter(({ creating }) => creating <= end);
      if (same.length === 0) this.found('ghost', `${name} is listed and never existed`);
      else if (same.every(({ deleted }) => deleted < start)) this.#behind(start - same.at(-1).deleted, `lists ${name}`);
    }
    for (const { name, created, deleting } of this.#journal.snapshots) {
      if (created < start && deleting === undefined && !names.includes(name)) {
        this.#behind(start - created, `does not list ${name}`);
      }
    }
  }

  #refuse(candidates, offset, bytes, what) {
    const name = what.slice(0, what.indexOf('/'));
    const differences = [...this.#journal.named(name), ...candidates].map((each) =>
      this.#difference(each, offset, bytes),
    );
    if (!differences.includes(undefined)) this.found('wrong bytes', `${what}: ${differences.at(-1)}`);
    else this.found('bytes of a deleted snapshot', `${what}: ${bytes.length} bytes at ${offset}`);
  }

  #difference(snapshot, offset, bytes) {
    return differenceFrom(this.#journal.epochsOf(snapshot), offset, bytes);
  }

  #behind(nanoseconds, what) {
    const milliseconds = Math.round(nanoseconds / 1e6);
    this.counts.behindMs = Math.max(this.counts.behindMs, milliseconds);
    if (milliseconds > PATIENCE_MS) this.found('behind', `the tree ${what}, ${milliseconds} ms later`);
  }
}
