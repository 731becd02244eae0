/** The text format of LVM metadata: the examples are in the syntax that lvm.conf(5) describes. */

import { describe, expect, it } from 'vitest';
import { type ConfigSection, parseConfig } from '../../../src/volumes/lvm/parse-config.ts';
import { catchError } from '../../support/catch-error.ts';

function parse(text: string, items = 1000): unknown {
  return toObject(parseConfig(text, { itemsLeft: items }));
}

function toObject({ values, sections }: ConfigSection): Record<string, unknown> {
  return {
    ...Object.fromEntries(values),
    ...Object.fromEntries([...sections].map(([name, section]) => [name, toObject(section)])),
  };
}

it.each<[string, string, Record<string, unknown>]>([
  ['nothing', '', {}],
  ['only comments', '# one\n  # two', {}],
  ['numbers', 'a = 1 b=-2\tc = +3 d = 1.5', { a: 1, b: -2, c: 3, d: 1.5 }],
  ['strings', `a = "x" b = 'y"\\' c = ""`, { a: 'x', b: 'y"\\', c: '' }],
  ['escaped quotes and backslashes', String.raw`a = "\"\\\n"`, { a: '"\\\\n' }],
  ['lists', 'a = [] b = [1] c = ["x", 2, # comment\n"y"]', { a: [], b: [1], c: ['x', 2, 'y'] }],
  ['sections', 'a { b { c = 1 } } d{}', { a: { b: { c: 1 } }, d: {} }],
  ['names that begin with digits and signs', '1.a-b+c_ { -x = 1 }', { '1.a-b+c_': { '-x': 1 } }],
  ['names in quotes', '"a b" = 1', { 'a b': 1 }],
  ['hashes in strings', 'a = "#" # "', { a: '#' }],
  ['braces in strings', 'a { b = "}" }', { a: { b: '}' } }],
  ['a NUL byte at the end', 'a = 1\n\0 b = {', { a: 1 }],
])('%s', (_, text, expected) => {
  expect(parse(text)).toEqual(expected);
});

describe('is refused:', () => {
  it.each<[string, string, RegExp]>([
    ['a value without a name', '= 1', /a name is missing/],
    ['a name without a value', 'a', /"=" or "\{" is missing/],
    ['an equals sign without a value', 'a =', /a number or a string is missing/],
    ['a bare word as a value', 'a = b', /a number or a string is missing/],
    ['a number with letters behind it', 'a = 1b', /a number or a string is missing/],
    ['a very long number', `a = ${'1'.repeat(100)}`, /a number or a string is missing/],
    ['a string without an end', 'a = "b', /a string has no end/],
    ['a string that ends in a backslash', 'a = "b\\', /a string has no end/],
    ['a string with an escaped end', 'a = "b\\"', /a string has no end/],
    ['a list without an end', 'a = [1, 2', /"," or "\]" is missing/],
    ['a list without commas', 'a = [1 2]', /"," or "\]" is missing/],
    ['a list in a list', 'a = [[1]]', /a number or a string is missing/],
    ['a section without an end', 'a { b = 1', /a name is missing/],
    ['a section with two ends', 'a { } }', /a name is missing/],
    ['a field that is there twice', 'a = 1 a = 2', /"a" is there twice/],
    ['a field and a section of one name', 'a = 1 a { }', /"a" is there twice/],
    ['sections in each other without end', 'a {'.repeat(100_000), /nested too deeply/],
    ['more than the limit', 'a = [1, 1, 1, 1]', /there is more in it than can be read/],
  ])('%s', (_, text, message) => {
    const error = catchError(() => parse(text, text.includes('1, 1') ? 4 : 1000));
    expect(error.code).toBe('DAMAGED');
    expect(error.message).toMatch(message);
  });
});

it('names in messages are cut and have no control characters', () => {
  const name = '\u0001'.repeat(10_000);
  const { message } = catchError(() => parse(`"${name}" = 1 "${name}" = 2`));
  expect(message.length).toBeLessThan(1000);
  expect(message).not.toContain('\u0001');
});

it.each([
  ['spaces', ' '],
  ['comments', '#\n'],
  ['escapes', '\\"'],
  ['letters', 'a'],
  ['digits', '1'],
])('many %s need no deep stack', (_, piece) => {
  const many = piece.repeat(2 ** 22);
  expect(parse(`${/[ #]/.test(piece) ? many : ''} a = 1`)).toEqual({ a: 1 });
  expect(catchError(() => parse(`a = "${many}`)).message).toMatch(/a string has no end/);
  expect(catchError(() => parse(`a = ${many}`)).code).toBe('DAMAGED');
});
