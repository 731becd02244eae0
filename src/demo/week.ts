/**
 * What ships with the package for the demo: the image `week.qcow2` and, in `week.json`, what QEMU reads in it. Both lie
 * in `src/demo` in a checkout and in an installed package alike; `make-week.sh` beside them made them.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The folder that has `package.json`: two levels up, from `src/demo` and from `dist/demo`. */
export const packageFolder = fileURLToPath(new URL('../../', import.meta.url));

export const weekImagePath = `${packageFolder}src/demo/week.qcow2`;

/** A piece of a disk. */
export interface Piece {
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/** One state of the image as QEMU reads it. */
export interface WeekState {
  readonly name: string;
  /** Null for the current state. */
  readonly id: string | null;
  readonly date: string | null;
  readonly virtualSizeBytes: number;
  readonly sha256: string;
  /** The guest's database file, which lies in one piece. */
  readonly database: Piece & { readonly sha256: string };
}

/** The content of `week.json`. */
export interface Week {
  readonly image: { readonly sizeBytes: number; readonly sha256: string };
  readonly partition: Piece;
  /** The page of the database that is overwritten from Friday on. */
  readonly damagedPage: Piece;
  readonly states: readonly WeekState[];
}

export function readWeek(): Week {
  return JSON.parse(readFileSync(`${packageFolder}src/demo/week.json`, 'utf8')) as Week;
}
