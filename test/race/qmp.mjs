/** The monitor protocol of QEMU (docs/interop/qmp-spec.txt): lines of JSON on a socket. */

import net from 'node:net';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const CONNECT_ATTEMPTS = 500;

/** Connects to a socket that QEMU may still be about to make. `hasEnded` says that it never will. */
export async function connectWhenThere(socketPath, hasEnded) {
  for (let attempt = 1; ; attempt++) {
    const socket = net.connect(socketPath);
    try {
      await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
      return socket;
    } catch (error) {
      if (attempt === CONNECT_ATTEMPTS || hasEnded()) throw error;
      await sleep(20);
    }
  }
}

export class Monitor {
  #socket;
  #waiting = [];

  constructor(socket) {
    this.#socket = socket;
    const lines = readline.createInterface({ input: socket }).on('line', (line) => this.#receive(JSON.parse(line)));
    // Its end says the same: QEMU may be gone before it has read all.
    for (const emitter of [socket, lines]) emitter.on('error', () => {});
    socket.on('close', () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error('QEMU closed its monitor'));
    });
  }

  /** What a command returns; throws with QEMU's message. */
  run(command, args = {}) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject: (error) => reject(new Error(`${command}: ${error.message}`)) });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    });
  }

  /** A command of the human monitor, which has said nothing if all went well. */
  async runHuman(line) {
    const said = await this.run('human-monitor-command', { 'command-line': line });
    if (said !== '') throw new Error(`${line}: ${said.trim()}`);
  }

  close() {
    this.#socket.destroy();
  }

  /** Answers come in the order of the commands; events and the greeting in between are nobody's answer. */
  #receive(message) {
    if ('return' in message) this.#waiting.shift()?.resolve(message.return);
    else if ('error' in message) this.#waiting.shift()?.reject(new Error(message.error.desc));
  }
}
