import { expect, test } from 'vitest';
import { escapeName, toFileNames } from '../../src/tree/file-names.ts';

const latin1 = (text: string) => Buffer.from(text, 'utf8').toString('latin1');

test.each([
  ['monday', 'monday'],
  ['with blank, -dash and ümläut 漢字 🦊', 'with blank, -dash and ümläut 漢字 🦊'],
  ['a/b', 'a%2Fb'],
  ['../../etc/passwd', '..%2F..%2Fetc%2Fpasswd'],
  ['.', '%2E'],
  ['..', '%2E%2E'],
  ['...', '...'],
  ['', '%empty'],
  ['%empty', '%25empty'],
  ['100%', '100%25'],
  ['a%2Fb', 'a%252Fb'],
  ['line\nbreak\x7f', 'line%0Abreak%7F'],
  ['\u0085\u009b', '%C2%85%C2%9B'],
  ['\0', '%00'],
])('%j becomes %j', (name, fileName) => {
  expect(escapeName(latin1(name))).toBe(latin1(fileName));
});

test.each([
  ['a lone byte', '\xff', '%FF'],
  ['a cut sequence', 'a\xc3', 'a%C3'],
  ['an overlong slash', '\xc0\xaf', '%C0%AF'],
  ['a surrogate', '\xed\xa0\x80', '%ED%A0%80'],
  ['above U+10FFFF', '\xf4\x90\x80\x80', '%F4%90%80%80'],
])('%s that is not UTF-8 is escaped byte by byte', (_, name, fileName) => {
  expect(escapeName(name)).toBe(fileName);
});

test('the first of a name keeps it; later ones are told apart by id, then by place', () => {
  const entries = [
    { name: 'a', id: '1' },
    { name: 'a', id: '2' },
    { name: 'a', id: '2' },
    { name: 'a%id=2', id: '3' },
  ];
  expect(toFileNames(entries)).toEqual(['a', 'a%id=2', 'a%entry=3', 'a%25id=2']);
});

test('a long name is cut between characters and escapes, and gets an ending', () => {
  const long = 'x'.repeat(244);
  const names = [long + latin1('é').repeat(20), `${long}////////////`, 'y'.repeat(256), 'y'.repeat(255)];
  const fileNames = toFileNames(names.map((name, index) => ({ name, id: String(index) })));
  expect(fileNames).toEqual([
    `${long}${latin1('ééé')}%id=0`,
    `${long}%2F%2F%id=1`,
    `${'y'.repeat(250)}%id=2`,
    'y'.repeat(255),
  ]);
});

test('names and ids of 64 KiB take no longer than short ones', () => {
  const entries = Array.from({ length: 300 }, (_, index) => ({
    name: '\xff'.repeat(65535),
    id: `${index}${'\x01'.repeat(65000)}`,
  }));
  expect(new Set(toFileNames(entries)).size).toBe(300);
});

/** A small generator with a fixed seed (xorshift32): names made of the bytes that matter. */
function* randomNames(count: number): Generator<string> {
  const pieces = [
    'a',
    '/',
    '%',
    '.',
    '..',
    '%id=',
    '1',
    '\n',
    '\xff',
    latin1('é'),
    '%2F',
    '%empty',
    '',
    'z'.repeat(130),
    latin1('漢').repeat(40),
  ];
  let state = 0x2545f491;
  const next = (limit: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
  for (let index = 0; index < count; index++) {
    yield Array.from({ length: next(4) }, () => pieces[next(pieces.length)] ?? '').join('');
  }
}

test('names of any kind become file names that Linux takes, no two alike', () => {
  const names = [...randomNames(3000)];
  const fileNames = toFileNames(names.map((name, index) => ({ name, id: String(index % 7) })));
  expect(new Set(fileNames).size).toBe(names.length);
  for (const fileName of fileNames) {
    expect(fileName).toMatch(/^[^/\p{Cc}]{1,255}$/u);
    expect(['.', '..']).not.toContain(fileName);
  }
});

test('different names are never escaped alike', () => {
  const names = new Set(randomNames(3000));
  expect(new Set([...names].map(escapeName)).size).toBe(names.size);
});
