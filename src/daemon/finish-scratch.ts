/** What becomes of a scratch view when its mount has ended: its delta is kept, and a qcow2 file made, if that was asked for. */

import fs from 'node:fs';
import { warn } from '../common/logging.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';
import { exportView, toOverlayBase } from '../open-image/export-view.ts';
import { imageFileOf } from '../open-image/layers.ts';
import { requireLowerQuiet } from '../open-image/require-quiet.ts';
import { ScratchFiles } from '../open-image/scratch-files.ts';
import { Delta } from '../overlay/delta.ts';
import { fileIdentity } from '../storage/file-storage.ts';
import { writeEndReport } from './end-report.ts';
import { type DaemonOptions, deltaPathOf, type ExportOptions } from './mount-options.ts';
import type { ServedImage } from './served-image.ts';
import type { ServedScratch } from './served-scratch.ts';
import { stateFilesOf, stateOfBlock } from './served-tree.ts';
import { writerOf } from './writer-of.ts';

/** Returns the exit code of the process. What fails, also by `signal`, is told in the log, and to `umount`. */
export async function finishScratch(
  served: ServedImage,
  scratch: ServedScratch,
  options: DaemonOptions,
  signal: AbortSignal,
): Promise<number> {
  const problems = await finish(served, scratch, options, signal);
  for (const problem of problems) warn(problem);
  if (scratch.endReport !== undefined) tellEnd(scratch.endReport, problems);
  return problems.length === 0 ? 0 : 1;
}

/** Without it, `umount` says that it does not know. */
function tellEnd(endReport: number, problems: readonly string[]): void {
  try {
    writeEndReport(endReport, { problems });
  } catch (error) {
    warn(`\`qcow2fs umount\` cannot be told how this has ended: ${messageOf(error)}`);
  }
}

async function finish(
  served: ServedImage,
  scratch: ServedScratch,
  { scratch: wanted, chain }: DaemonOptions,
  signal: AbortSignal,
): Promise<string[]> {
  const deltaPath = wanted && deltaPathOf(wanted);
  if (wanted === undefined || deltaPath === undefined) return [];
  const { fd } = scratch.delta;
  // First: until the export is made, the changes are nowhere else.
  const unsaved = whyUnsaved(scratch);
  const rest = unsaved && `${unsaved}; what was written since the last fsync(2) is not in ${deltaPath}`;
  if (wanted.export === undefined) {
    if (rest !== undefined) return [rest];
    return fs.fstatSync(fd).nlink === 0 ? [describePlace(deltaPath, fd)] : [];
  }
  const target = wanted.export.path;
  try {
    await exportScratch(served, scratch, wanted.export, chain, signal);
  } catch (error) {
    return [`${target} was not exported: ${messageOf(error)}; ${rest ?? describePlace(deltaPath, fd)}`];
  }
  if (wanted.deltaPath === undefined) return removeDelta(deltaPath, fd);
  return rest === undefined ? [] : [`${rest}, only in ${target}`];
}

/** Brings all that was written to the file of the delta. Returns why that could not be done. */
function whyUnsaved({ delta }: ServedScratch): string | undefined {
  try {
    new Delta(delta).sync();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

async function exportScratch(
  served: ServedImage,
  { block, delta }: ServedScratch,
  { path: target, isFlat }: ExportOptions,
  chain: DaemonOptions['chain'],
  signal: AbortSignal,
): Promise<void> {
  const state = stateOfBlock(served, block);
  if (state === undefined) {
    throw new Qcow2fsError('STALE', `${served.imagePath}: the state is not there any more`);
  }
  const files = stateFilesOf(served);
  const { image } = served;
  requireLowerQuiet(image.layers, writerOf);
  const base = isFlat ? undefined : toOverlayBase(image, files, chain, writerOf(imageFileOf(image.layers).fd));
  await exportView({ view: new ScratchFiles(files, state, new Delta(delta)).view, path: target, base, signal });
}

function describePlace(deltaPath: string, fd: number): string {
  try {
    if (isAt(deltaPath, fd)) return `the changes are in ${deltaPath}`;
  } catch (error) {
    return `the changes are in ${deltaPath}, which cannot be reached: ${messageOf(error)}`;
  }
  return fs.fstatSync(fd).nlink === 0
    ? `the changes are lost, as somebody has removed ${deltaPath}`
    : `the changes are in what was ${deltaPath}, which somebody has renamed`;
}

/** What is in the export is not needed twice. Somebody else may have put another file in its place. Returns what goes wrong. */
function removeDelta(deltaPath: string, fd: number): string[] {
  try {
    if (isAt(deltaPath, fd)) fs.unlinkSync(deltaPath);
    return [];
  } catch (error) {
    return [`${deltaPath} is not needed any more, and cannot be removed: ${messageOf(error)}`];
  }
}

/** @throws what lstat(2) says, but that there is nothing. */
function isAt(deltaPath: string, fd: number): boolean {
  const stat = fs.lstatSync(deltaPath, { throwIfNoEntry: false });
  return stat !== undefined && fileIdentity(stat) === fileIdentity(fs.fstatSync(fd));
}
