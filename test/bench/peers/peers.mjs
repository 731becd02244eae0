/**
 * The programs that are compared. Each shows the states of an image as files.
 *
 * A peer has `name`, `programs` that it needs, `cannot(subject)`, which is the reason why it cannot show an image or
 * undefined, and `start(subject, folder)`, which returns a server once its files are there: `files`, one for each
 * view of the subject, and `pids()`, the processes that serve them. What it starts is undone with the scope.
 */

import fs from 'node:fs';
import path from 'node:path';
import { qcow2fs, qcow2fsThroughFuseNative } from './qcow2fs.mjs';
import { qcowmount } from './qcowmount.mjs';
import { qemuNbd } from './qemu-nbd.mjs';
import { qemuStorageDaemon } from './qemu-storage-daemon.mjs';
import { rawFile } from './raw-file.mjs';

/** In the order of the columns. */
export const PEERS = [qcow2fs, qemuStorageDaemon, qemuNbd, qcowmount, qcow2fsThroughFuseNative, rawFile];

/** Why a peer cannot show a subject, or undefined if it may. */
export function whyNot(peer, subject) {
  const missing = peer.programs.find((program) => !isInPath(program));
  if (missing !== undefined) return `${missing} is not installed, see \`bin/set-up bench\``;
  return peer.cannot(subject);
}

function isInPath(program) {
  return (process.env.PATH ?? '').split(':').some((folder) => fs.existsSync(path.join(folder, program)));
}
