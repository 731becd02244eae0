/** Runs programs so that Ctrl-C ends them, and undoes what was set up, in reverse order. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';

const interruption = new AbortController();
/** @type {(() => unknown)[]} */
const undoings = [];

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => interruption.abort(new Error(`interrupted by ${signal}`)));
}

/** Remembers what `undoAll` has to do. */
export function undoLater(undo) {
  undoings.push(undo);
}

/** Undoes everything, whatever fails on the way; says whether all went well. */
export async function undoAll() {
  let isClean = true;
  for (const undo of undoings.splice(0).reverse()) {
    try {
      await undo();
    } catch (error) {
      isClean = false;
      console.error(`bench: ${error.message}`);
    }
  }
  return isClean;
}

/** Throws if the run was interrupted. */
export function checkInterrupted() {
  interruption.signal.throwIfAborted();
}

/** Runs a program to its end and returns its standard output; throws when it fails or the run is interrupted. */
export async function run(command, args) {
  return await runToEnd(command, args, { signal: interruption.signal });
}

/** As `run`, but goes on when the run is interrupted: for undoing, and for what must not be left half done. */
export async function runAnyway(command, args) {
  return await runToEnd(command, args, {});
}

/** Starts a program that goes on in the background, out of reach of the terminal's Ctrl-C. */
export function start(command, args) {
  const child = spawn(command, args, { detached: true, stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = once(child, 'exit');
  return {
    pid: child.pid,
    hasEnded: () => child.exitCode !== null || child.signalCode !== null,
    async stop() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}

async function runToEnd(command, args, options) {
  const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) {
    child[name].setEncoding('utf8').on('data', (text) => {
      output[name] += text;
    });
  }
  let code;
  try {
    [code] = await once(child, 'close');
  } catch (error) {
    // The signal ends the child, and its reason says more than the error that comes of that.
    options.signal?.throwIfAborted();
    throw error;
  }
  if (code === 0) return output.stdout;
  throw new Error(`${[command, ...args].join(' ')}: exit ${code}\n${output.stderr}`);
}
