/** What a row of `damage-table.ts` says, and what many of them say alike. */

import type { StateName } from './damage-sample.ts';
import type { DamagedImage } from './damaged-image.ts';

/** `right`: the bytes before the damage. `invented`: other bytes, and exit 0. Otherwise what its message contains. */
export type QemuOutcome = string;

/**
 * `right`, `absent`, the codes and ranges of guest bytes that are errors, as in `PAST_END 0+4096`, or `invented` where this
 * reader gives what QEMU does, to the byte.
 */
export type Outcome = string;

export type States<Value> = Readonly<Record<StateName, Value>>;

export interface DamageRow {
  readonly title: string;
  readonly apply: (image: DamagedImage) => void;
  readonly qemu: States<QemuOutcome>;
  /** The code with which the image is refused as a whole: then nothing else is looked at. */
  readonly refused?: string;
  readonly here: States<Outcome>;
  /** What the lines of `info`, `list`, `image.json` and the log contain, in their order. */
  readonly problems: readonly string[];
  /** What the log contains once the states were read, besides `problems`. */
  readonly whenRead?: string;
  /** Exit status of `check`: of QEMU's and of this program's. Counts are compared where both have some. */
  readonly check: readonly [qemu: number, here: number];
}

/** Past the end of every file. */
export const FAR = 1n << 40n;
export const RIGHT = { current: 'right', mon: 'right', tue: 'right' };
export const allStates = <Value>(value: Value): States<Value> => ({ current: value, mon: value, tue: value });
/** Rows that no reader stumbles over. */
export const HARMLESS: Omit<DamageRow, 'title' | 'apply'> = { qemu: RIGHT, here: RIGHT, problems: [], check: [0, 0] };
/** Rows of images that are refused as a whole, here and by QEMU. */
export const REFUSED = { here: allStates('absent'), problems: [], check: [1, 1] } as const;
