/** A thread of the fuzzer. It says in shared memory which case it runs, so that one which never ends can be told. */

import { parentPort, workerData } from 'node:worker_threads';
import { slowest } from './exercise.mjs';
import { confirmed, prepare, runCase } from './run-cases.mjs';

const { corpus, folder, seed, first, step, end, deadline, progress, askEach } = workerData;
const images = await prepare(
  corpus.map((image) => ({
    ...image,
    files: image.files.map((file) => ({ ...file, healthy: Buffer.from(file.healthy) })),
  })),
  folder,
);
let done = 0;
for (let number = first; number < end && Date.now() < deadline; number += step) {
  Atomics.store(progress, 0, number);
  const finding = runCase(images, seed, number, number % askEach === 0);
  if (finding !== undefined) parentPort.postMessage({ finding: { ...finding, number } });
  done += 1;
}
Atomics.store(progress, 0, -1);
parentPort.postMessage({ done, slowest, confirmed: confirmed.reads });
