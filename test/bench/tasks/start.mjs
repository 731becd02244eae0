/** Time and memory of a server that has just been started. Such a task starts it itself. */

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { residentBytes } from '../peers/memory.mjs';

const MIB = 2 ** 20;
const FIRST_BYTES = 4096;
/** After that, nothing of the start is still going on. */
const SETTLE_MS = 500;

/** From the command until the first bytes are there, after a look at the names of all snapshots where they are shown. */
export const startUntilReadable = {
  unit: 'ms',
  better: 'lower',
  title: 'from the command to a readable tree',
  startsServer: true,
  measure: async ({ peer, start, subject }) => {
    const begin = performance.now();
    const server = await start();
    if (peer.isOurs) fs.readdirSync(path.join(server.files[0], '../..'));
    readFirstBytes(server, subject);
    return performance.now() - begin;
  },
};

/** As a user does it who has mounted already. */
export const openLastSnapshot = {
  unit: 'ms',
  better: 'lower',
  title: 'open and read the last snapshot, once mounted',
  startsServer: true,
  cannot: (peer) => (peer.isOurs ? undefined : 'it is started for one state'),
  measure: async ({ start, subject }) => {
    const server = await start();
    await sleep(SETTLE_MS);
    const begin = performance.now();
    readFirstBytes(server, subject);
    return performance.now() - begin;
  },
};

export const memoryAtRest = {
  unit: 'MiB',
  better: 'lower',
  title: 'memory at rest',
  startsServer: true,
  isMemory: true,
  measure: async ({ start, subject }) => {
    const server = await start();
    readFirstBytes(server, subject);
    await sleep(SETTLE_MS);
    return residentBytes(server.pids()) / MIB;
  },
};

/** Of the data, not of a hole. */
function readFirstBytes({ files }, { views }) {
  const { pieces: [{ offset }] = [{ offset: 0 }] } = views[0];
  const fd = fs.openSync(files[0]);
  try {
    const count = fs.readSync(fd, Buffer.alloc(FIRST_BYTES), 0, FIRST_BYTES, offset);
    if (count !== FIRST_BYTES) throw new Error(`${files[0]} is too short`);
  } finally {
    fs.closeSync(fd);
  }
}
