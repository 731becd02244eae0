/** Long JSON texts, piece by piece. */

import type { Sequence } from './sequence.ts';

/**
 * The text of `JSON.stringify(value, null, 2)` for an object whose properties may also be sequences. Sequences and arrays
 * give a piece for each of their values, so that no more than one needs to exist at a time.
 */
export function* toJsonPieces(value: object): Generator<string> {
  let separator = '{\n';
  for (const [key, property] of Object.entries(value)) {
    if (property === undefined) continue;
    yield `${separator}  ${JSON.stringify(key)}: `;
    if (isSequence(property)) yield* toListPieces(property);
    else yield toIndentedJson(property, '  ');
    separator = ',\n';
  }
  yield separator === ',\n' ? '\n}' : '{}';
}

function* toListPieces(list: Sequence<unknown>): Generator<string> {
  let separator = '[\n';
  for (const value of list) {
    yield `${separator}    ${toIndentedJson(value, '    ')}`;
    separator = ',\n';
  }
  yield separator === ',\n' ? '\n  ]' : '[]';
}

/** Line breaks inside of strings are escaped in JSON, so that those which are left begin lines. */
function toIndentedJson(value: unknown, indent: string): string {
  return JSON.stringify(value, null, 2).replaceAll('\n', `\n${indent}`);
}

function isSequence(value: unknown): value is Sequence<unknown> {
  return typeof value === 'object' && value !== null && 'at' in value && Symbol.iterator in value;
}
