/** Memory of a server under load. */

import { setTimeout as sleep } from 'node:timers/promises';
import { commonBytes } from '../peers/memory.mjs';
import { allAtOnce } from './fio.mjs';

const MIB = 2 ** 20;
const PAUSE_MS = 100;

/** The most that is in use while all files are read at once. */
export const memoryOfAllAtOnce = {
  unit: 'MiB',
  better: 'lower',
  title: 'all at once, memory',
  isMemory: true,
  measure: async (context) => {
    const pids = context.server.pids();
    let isReading = true;
    const reading = allAtOnce.measure(context).finally(() => {
      isReading = false;
    });
    let most = 0;
    while (isReading) {
      most = Math.max(most, commonBytes(pids));
      await Promise.race([reading, sleep(PAUSE_MS)]);
    }
    await reading;
    return most / MIB;
  },
};
