/**
 * What a user calls a state: `current`, `id:N`, `name:X` or a bare snapshot name. QEMU's tools take a word for an id or a name,
 * whichever fits first and each in its own order (bdrv_snapshot_load_tmp_by_id_or_name): here it is always the name.
 */

import { toIsoDate } from '../common/dates.ts';
import { decodeName } from '../common/names.ts';
import type { Sequence } from '../common/sequence.ts';
import { Qcow2fsError } from '../errors.ts';
import type { Snapshot } from '../qcow2/snapshots.ts';

/** Always the current state: a snapshot of that name is `name:current`. */
const CURRENT = 'current';
const BY_ID = 'id:';
const BY_NAME = 'name:';
/** Between the first and the last of a range. */
const RANGE = '..';

/** What is read of a snapshot to find it. */
export type NamedSnapshot = { readonly entry: Pick<Snapshot['entry'], 'id' | 'name' | 'dateSeconds'> };

/**
 * The number of the state as in `StateDisks`: 0 is the current state, n the snapshot with place n - 1.
 * @throws Qcow2fsError NOT_FOUND; USAGE for what several snapshots are called, with all of them.
 */
export function findState(imagePath: string, snapshots: Sequence<NamedSnapshot>, text: string): number {
  if (text === '') throw wrong(imagePath, text, 'USAGE', 'the name of the state is empty');
  if (text === CURRENT) return 0;
  const key = text.startsWith(BY_ID) ? 'id' : 'name';
  const prefix = key === 'id' ? BY_ID : text.startsWith(BY_NAME) ? BY_NAME : '';
  const wanted = toLatin1(text.slice(prefix.length));
  const found = indexesOf(snapshots, ({ entry }) => entry[key] === wanted);
  const [index] = found;
  if (index === undefined) throw notFound(imagePath, snapshots, text);
  if (found.length === 1) return index + 1;
  const candidates = found.map((each) => describe(snapshots.at(each))).join(', ');
  throw wrong(
    imagePath,
    text,
    'USAGE',
    `${found.length} snapshots are called ${text}: ${candidates}; take one by its id`,
  );
}

/**
 * The numbers of several states, each once and in `order`. A word is as for `findState`, or `A..B`: all states from A to B, as they
 * are in `order`.
 * @throws Qcow2fsError as `findState`.
 */
export function findStates(
  imagePath: string,
  snapshots: Sequence<NamedSnapshot>,
  order: readonly number[],
  words: readonly string[],
): number[] {
  const found = new Set<number>();
  for (const word of words) {
    const [from, to] = boundsOf(imagePath, snapshots, word).map((state) => order.indexOf(state));
    if (from === undefined || to === undefined) continue;
    for (const state of order.slice(Math.min(from, to), Math.max(from, to) + 1)) found.add(state);
  }
  return order.filter((state) => found.has(state));
}

/** A name may have dots in it, so the whole word counts first. */
function boundsOf(imagePath: string, snapshots: Sequence<NamedSnapshot>, word: string): [number, number] {
  try {
    const state = findState(imagePath, snapshots, word);
    return [state, state];
  } catch (error) {
    if (!(error instanceof Qcow2fsError) || error.code !== 'NOT_FOUND') throw error;
    for (let at = word.indexOf(RANGE); at > 0; at = word.indexOf(RANGE, at + 1)) {
      const ends = [word.slice(0, at), word.slice(at + RANGE.length)].map((end) =>
        orUndefined(imagePath, snapshots, end),
      );
      const [from, to] = ends;
      if (from !== undefined && to !== undefined) return [from, to];
    }
    throw error;
  }
}

function orUndefined(imagePath: string, snapshots: Sequence<NamedSnapshot>, text: string): number | undefined {
  try {
    return text === '' ? undefined : findState(imagePath, snapshots, text);
  } catch (error) {
    if (error instanceof Qcow2fsError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

/** For each snapshot a text by which `findState` finds it: its name where that is possible, or else its id. */
export function stateNamesOf(snapshots: Sequence<NamedSnapshot>): string[] {
  const counts = new Map<string, number>();
  for (const { entry } of snapshots) counts.set(entry.name, (counts.get(entry.name) ?? 0) + 1);
  return Array.from(snapshots, ({ entry }) => {
    const { text, isExact } = decodeName(entry.name);
    const isClear = isExact && text !== '' && counts.get(entry.name) === 1;
    if (!isClear) return stateIdOf(entry);
    return text === CURRENT || text.startsWith(BY_ID) || text.startsWith(BY_NAME) ? `${BY_NAME}${text}` : text;
  });
}

/** `id:N`, or `current` without a snapshot. */
export function stateIdOf(entry: Pick<NamedSnapshot['entry'], 'id'> | undefined): string {
  return entry === undefined ? CURRENT : `${BY_ID}${decodeName(entry.id).text}`;
}

function notFound(imagePath: string, snapshots: Sequence<NamedSnapshot>, text: string): Qcow2fsError {
  const isAnId = indexesOf(snapshots, ({ entry }) => entry.id === toLatin1(text)).length > 0;
  // Node.js puts U+FFFD in place of the bytes of an argument that are not UTF-8.
  const hint = isAnId
    ? `the one with the id ${text} is id:${text}`
    : text.includes('\ufffd')
      ? 'a name that is not UTF-8 cannot be given: take its id'
      : '`qcow2fs list` shows those there are';
  return wrong(imagePath, text, 'NOT_FOUND', `no snapshot is called ${text}; ${hint}`);
}

function indexesOf(snapshots: Sequence<NamedSnapshot>, isWanted: (snapshot: NamedSnapshot) => boolean): number[] {
  const found: number[] = [];
  let index = 0;
  for (const snapshot of snapshots) {
    if (isWanted(snapshot)) found.push(index);
    index += 1;
  }
  return found;
}

function describe(snapshot: NamedSnapshot | undefined): string {
  if (snapshot === undefined) return '';
  const { entry } = snapshot;
  return `${stateIdOf(entry)} (${decodeName(entry.name).text}, ${toIsoDate(entry.dateSeconds)})`;
}

/** Arguments are text, names are bytes. */
function toLatin1(text: string): string {
  return Buffer.from(text).toString('latin1');
}

function wrong(file: string, state: string, code: 'USAGE' | 'NOT_FOUND', reason: string): Qcow2fsError {
  return new Qcow2fsError(code, `${file}: ${reason}`, { data: { file, state } });
}
