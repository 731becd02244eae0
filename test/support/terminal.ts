/** Commands that ask something on a terminal. */

import { spawn } from 'node:child_process';

/** Runs a command with a terminal of its own and types each of `texts` when it asks for something (`...: `). */
export async function typeOnTerminal(
  command: string,
  ...texts: readonly string[]
): Promise<{ output: string; status: number | null }> {
  const child = spawn('script', ['--quiet', '--return', '--echo', 'never', '--command', command, '/dev/null'], {
    timeout: 60_000,
    killSignal: 'SIGKILL',
  });
  let output = '';
  let typedCount = 0;
  child.stdout.on('data', (piece: Buffer) => {
    output += piece.toString();
    if (typedCount >= texts.length || output.split(': ').length - 1 <= typedCount) return;
    child.stdin.write(texts[typedCount++] ?? '', 'latin1');
  });
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { output, status };
}
