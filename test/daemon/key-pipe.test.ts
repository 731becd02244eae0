import { once } from 'node:events';
import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { decodeKeys, encodeKeys, sendKeys } from '../../src/daemon/key-pipe.ts';
import { catchError } from '../support/catch-error.ts';

const KEYS = () => [
  { image: 0, depth: 0, identity: 'top', key: Buffer.from('0123456789abcdef') },
  { image: 2, depth: 3, identity: 'base', key: Buffer.alloc(64, 10) },
];

test('keys arrive as they were sent, and are overwritten where they came from', async () => {
  const sent: Buffer[] = [];
  const received: Buffer[] = [];
  const pipe = new Writable({
    write(piece: Buffer, _, done) {
      sent.push(piece);
      received.push(Buffer.from(piece));
      done();
    },
  });
  const keys = KEYS();
  sendKeys(pipe, keys);
  await once(pipe, 'finish');
  expect(decodeKeys(Buffer.concat(received))).toEqual(KEYS());
  expect(sent.every((piece) => piece.equals(Buffer.alloc(piece.length)))).toBe(true);
  expect(keys.every(({ key }) => key.equals(Buffer.alloc(key.length)))).toBe(true);
});

test('a message that was cut is no keys', () => {
  const message = encodeKeys(KEYS());
  for (const length of [0, 10, message.length - 1]) {
    expect(catchError(() => decodeKeys(message.subarray(0, length))).code).toBe('INTERNAL');
  }
});
