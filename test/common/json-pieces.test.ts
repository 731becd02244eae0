import { expect, test } from 'vitest';
import { toJsonPieces } from '../../src/common/json-pieces.ts';
import { mapSequence } from '../../src/common/sequence.ts';

const VALUES = [
  {},
  { a: undefined },
  { empty: [], object: {}, nothing: null, gap: undefined, text: 'line\nbreak "\u2028', number: 1.5, no: false },
  { list: [{ id: '1', inner: [1, { deep: [] }] }, 'a\nb', [], null], behind: { list: [{ a: 1 }] } },
];

test.each(VALUES)('the pieces of %j are what JSON.stringify makes of it', (value) => {
  expect([...toJsonPieces(value)].join('')).toBe(JSON.stringify(value, null, 2));
});

test('a sequence is written as the array of its values, each of them made when its piece is', () => {
  const made: number[] = [];
  const list = mapSequence([1, 2, 3], (value) => {
    made.push(value);
    return { value };
  });
  const pieces = toJsonPieces({ list });
  pieces.next();
  pieces.next();
  expect(made).toEqual([1]);
  expect([...toJsonPieces({ list })].join('')).toBe(
    JSON.stringify({ list: [{ value: 1 }, { value: 2 }, { value: 3 }] }, null, 2),
  );
});
