/** Lines that another process writes. */

import type { Readable } from 'node:stream';

/**
 * Calls `take` with each line, without its `\n`, and `takeRest` with what is behind the last one when the stream is closed.
 *
 * An error of the stream is no more than its end: a socket has ECONNRESET when the process at its other side has ended before it had
 * read all that was sent (net/unix/af_unix.c, unix_release_sock). The streams of `node:readline` pass it on as one of their own.
 */
export function readLines(
  stream: Readable,
  take: (line: string) => void,
  takeRest: (text: string) => void = () => {},
): void {
  let pieces: string[] = [];
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const [first = '', ...others] = text.split('\n');
    pieces.push(first);
    for (const other of others) {
      const line = pieces.join('');
      pieces = [other];
      take(line);
    }
  });
  stream.on('error', () => {});
  stream.on('close', () => {
    const rest = pieces.join('');
    if (rest !== '') takeRest(rest);
  });
}
