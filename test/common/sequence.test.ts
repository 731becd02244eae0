import { expect, test } from 'vitest';
import { mapSequence } from '../../src/common/sequence.ts';

test('a mapped sequence has the values of the other one, in their order', () => {
  const doubled = mapSequence([1, 2, 3], (value) => value * 2);
  expect(doubled.length).toBe(3);
  expect([...doubled]).toEqual([2, 4, 6]);
  expect([2, 0, 0, 3].map((index) => doubled.at(index))).toEqual([6, 2, 2, undefined]);
});

test('a value is made when it is asked for, and kept while it is asked for again', () => {
  const made: string[] = [];
  const sequence = mapSequence(['a', 'b'], (value) => {
    made.push(value);
    return value;
  });
  expect(made).toEqual([]);
  for (const index of [1, 1, 0, 0, 1]) sequence.at(index);
  expect(made).toEqual(['b', 'a', 'b']);
});
