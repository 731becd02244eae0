/** The reading processes of a race, and a watch over them. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { undoLater } from '../bench/run.mjs';
import { now } from './journal.mjs';
import { NO_COUNTS, PATIENCE_MS } from './judge.mjs';

/** Starts one. `prefix` is a command that runs what follows it as somebody else; `script` is reader.mjs. */
export function startReader(prefix, script, args) {
  // A SIGBUS of what it runs must leave no core file.
  const shell = ['sh', '-c', 'ulimit -c 0; exec "$@"', 'sh', 'setpriv', '--pdeathsig', 'KILL', '--'];
  const [program, ...others] = [...prefix, ...shell, process.execPath, script, ...args.map(String)];
  const child = spawn(program, others, {
    cwd: path.dirname(script),
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  // The end of a reader is judged by what it has said.
  child.stdin.on('error', () => {});
  const reader = { heardAt: now(), report: undefined };
  readline.createInterface({ input: child.stdout }).on('line', (line) => {
    reader.heardAt = now();
    reader.report = JSON.parse(line).report ?? reader.report;
  });
  const watch = setInterval(() => {
    if (now() - reader.heardAt > PATIENCE_MS * 1e6) kill('hang', `it waits for more than ${PATIENCE_MS} ms in`);
  }, 500);
  undoLater(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    clearInterval(watch);
    await closed;
  });

  function kill(kind, text) {
    reader.report = failedReport(kind, `reader ${args.at(-1)}: ${text} ${systemCallOf(child.pid)}`);
    child.kill('SIGKILL');
  }

  return {
    /** What it found; it reads what is left first. */
    async finish() {
      child.stdin.end();
      const [code, signal] = await closed;
      clearInterval(watch);
      return reader.report ?? failedReport('reader', `reader ${args.at(-1)} ended with ${code ?? signal}`);
    },
  };
}

/** As that of a reader, with one finding. */
export function failedReport(kind, text) {
  return { counts: NO_COUNTS, findingCounts: { [kind]: 1 }, details: [`${kind}: ${text}`], readKeys: [] };
}

/** proc(5): the number of the call and its arguments. */
function systemCallOf(pid) {
  try {
    return `system call ${fs.readFileSync(`/proc/${pid}/syscall`, 'latin1').trim()}`;
  } catch (error) {
    return `an unknown system call (${error.message})`;
  }
}
