/** Whether a server shows the right bytes. What shows others is not timed. */

import crypto from 'node:crypto';
import fs from 'node:fs';
import { checkInterrupted, run } from './run.mjs';

const PART_BYTES = 1024 * 1024;

/** Why the files of a server are not the views of a subject, or undefined if they are. */
export async function whatIsWrong(server, views) {
  for (const [index, view] of views.entries()) {
    try {
      if (!(await isRight(server.files[index], view))) return 'it gives other bytes';
    } catch (error) {
      checkInterrupted();
      return `it cannot be read: ${error.message.trim().split('\n').at(-1)}`;
    }
  }
  return undefined;
}

/** Adds the hash of each of the `pieces` ({offset, length}) of a file. */
export async function hashPieces(file, pieces) {
  const handle = await fs.promises.open(file);
  try {
    const hashed = [];
    for (const piece of pieces) {
      checkInterrupted();
      hashed.push({ ...piece, sha256: await hashPiece(handle, piece) });
    }
    return hashed;
  } finally {
    await handle.close();
  }
}

async function isRight(file, view) {
  if (view.pieces === undefined) {
    view.sha256 ??= await hashFile(view.raw);
    return (await hashFile(file)) === view.sha256;
  }
  const hashed = await hashPieces(file, view.pieces);
  return hashed.every(({ sha256 }, index) => sha256 === view.pieces[index].sha256);
}

async function hashFile(file) {
  return (await run('sha256sum', [file])).split(' ')[0];
}

async function hashPiece(handle, { offset, length }) {
  const hash = crypto.createHash('sha256');
  const buffer = Buffer.alloc(Math.min(length, PART_BYTES));
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, length - done), offset + done);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(0, bytesRead));
    done += bytesRead;
  }
  return hash.digest('hex');
}
