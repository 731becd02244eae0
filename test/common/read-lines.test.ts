import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { readLines } from '../../src/common/read-lines.ts';

async function readAll(end: (stream: PassThrough) => void): Promise<{ lines: string[]; rests: string[] }> {
  const stream = new PassThrough();
  const [lines, rests]: [string[], string[]] = [[], []];
  readLines(
    stream,
    (line) => lines.push(line),
    (text) => rests.push(text),
  );
  const closed = new Promise((resolve) => stream.on('close', resolve));
  end(stream);
  await closed;
  return { lines, rests };
}

test('a line may come in pieces, and several in one; a character too', async () => {
  const bytes = Buffer.from('first\n\nsnapshot of Zürich\nlast\n');
  const inPieces = await readAll((stream) => {
    for (const byte of bytes) stream.write(Buffer.of(byte));
    stream.end();
  });
  const atOnce = await readAll((stream) => stream.end(bytes));
  expect(inPieces).toEqual({ lines: ['first', '', 'snapshot of Zürich', 'last'], rests: [] });
  expect(atOnce).toEqual(inPieces);
});

test('only \\n ends a line: JSON leaves other ends of lines as they are', async () => {
  const text = 'a\u2028b\u2029c\u0085d';
  expect((await readAll((stream) => stream.end(`${text}\n`))).lines).toEqual([text]);
});

test('what is behind the last line is none', async () => {
  expect(await readAll((stream) => stream.end('whole\nbro'))).toEqual({ lines: ['whole'], rests: ['bro'] });
});

test('an error of the stream is its end', async () => {
  const read = readAll((stream) => {
    stream.write('whole\nbro');
    setImmediate(() => stream.destroy(new Error('read ECONNRESET')));
  });
  expect(await read).toEqual({ lines: ['whole'], rests: ['bro'] });
});
