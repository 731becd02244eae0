/** Runs a command in one state after the other. */

import { toIsoDate } from '../common/dates.ts';
import { decodeName } from '../common/names.ts';
import { Qcow2fsError } from '../errors.ts';
import { stateIdOf, stateNamesOf } from '../open-image/find-state.ts';
import { closeLayers } from '../open-image/layers.ts';
import { openImageHeader, snapshotsOf } from '../open-image/open-image.ts';
import { OutputTail } from './output-tail.ts';
import { type ExecHooks, type ExecTask, runInState } from './run-in-state.ts';

const CURRENT = 'current';

export interface StateOfImage {
  /** What `findState` takes for it; its name if possible. */
  readonly label: string;
  /** `current` or `id:N`. */
  readonly state: string;
  /** Of the snapshot; null for the current state. */
  readonly name: string | null;
  readonly id: string | null;
  readonly date: string | null;
}

export interface StateResult extends StateOfImage {
  /** Of the command; null if it could not be started. */
  readonly exitCode: number | null;
  /** Of its standard output, or else of its standard error. */
  readonly lastLine: string;
  /** Why it could not be started. */
  readonly error: string | null;
}

/**
 * The snapshots by their dates, and the current state at the end.
 * @throws Qcow2fsError as `openImageHeader`.
 */
export function listStates(imagePath: string): StateOfImage[] {
  const header = openImageHeader(imagePath);
  closeLayers(header.layers);
  const snapshots = snapshotsOf(header);
  const labels = stateNamesOf(snapshots);
  const states = Array.from(snapshots, ({ entry }, index) => ({
    time: entry.dateSeconds + entry.dateNanoseconds / 1e9,
    label: labels[index] ?? '',
    state: stateIdOf(entry),
    name: decodeName(entry.name).text,
    id: decodeName(entry.id).text,
    date: toIsoDate(entry.dateSeconds),
  }));
  states.sort((one, other) => one.time - other.time);
  const current = { label: CURRENT, state: CURRENT, name: null, id: null, date: null };
  return [...states.map(({ time: _, ...state }) => state), current];
}

/**
 * Gives the result of each state as soon as it is there; ends early when a signal wants it.
 * @throws Qcow2fsError USAGE, if the first state shows that the command line is wrong.
 */
export async function* runInEachState(
  task: ExecTask,
  states: readonly StateOfImage[],
  hooks: Omit<ExecHooks, 'streams'>,
): AsyncGenerator<StateResult> {
  for (const [index, state] of states.entries()) {
    const streams = { stdout: new OutputTail(), stderr: new OutputTail() };
    try {
      const exitCode = await runInState(task, state.label, { ...hooks, streams });
      const lastLine = streams.stdout.lastLine() || streams.stderr.lastLine();
      yield { ...state, exitCode, lastLine, error: null };
    } catch (error) {
      if (!(error instanceof Qcow2fsError) || error.code === 'INTERNAL') throw error;
      if (error.code === 'USAGE' && index === 0) throw error;
      yield { ...state, exitCode: null, lastLine: '', error: error.message };
    }
    if (hooks.signals.exitCode !== undefined) return;
  }
}
