/** The snapshots of an image and what they hold, and what deleting some would free. */

import { warn } from '../common/logging.ts';
import { writerOf } from '../daemon/writer-of.ts';
import {
  type ImageSpaceList,
  listWithSpace,
  type UsageDescription,
  type WouldFree,
  wouldFree,
} from '../open-image/describe-space.ts';
import { type DescribeOptions, toJsonLines } from './describe-commands.ts';
import { formatRows, formatSize, toPrintable } from './format.ts';
import { writePieces } from './write-pieces.ts';

const HEADINGS = ['ID', 'NAME', 'DATE', 'VIRTUAL SIZE', 'VM STATE', 'REFER', 'USED', 'WRITTEN'];
const NOTHING = '-';

export async function listSnapshots(imagePath: string, { json }: DescribeOptions): Promise<void> {
  const list = listWithSpace(imagePath, writerOf);
  await writePieces(process.stdout, json ? toJsonLines(list) : toListLines(list));
  warnOf(list.problems);
}

export async function listWouldFree(
  imagePath: string,
  words: readonly string[],
  { json }: DescribeOptions,
): Promise<void> {
  const freed = wouldFree(imagePath, words, writerOf);
  await writePieces(process.stdout, json ? toJsonLines(freed) : [toFreedText(freed)]);
  warnOf(freed.problems);
}

function toListLines({ snapshots, current }: ImageSpaceList): Iterable<string> {
  return formatRows({
    *[Symbol.iterator]() {
      yield HEADINGS;
      for (const snapshot of snapshots) {
        const { id, name, date, virtualSizeBytes, vmStateBytes } = snapshot;
        const vmState = vmStateBytes === 0 ? NOTHING : formatSize(vmStateBytes);
        const cells = [toPrintable(id), toPrintable(name), date, formatSize(virtualSizeBytes), vmState];
        yield [...cells, ...toSpaceCells(snapshot)];
      }
      const size = formatSize(current.virtualSizeBytes);
      yield [NOTHING, '(current)', NOTHING, size, NOTHING, ...toSpaceCells(current)];
    },
  });
}

function toSpaceCells({ referBytes, usedBytes, writtenBytes }: UsageDescription): string[] {
  return [referBytes, usedBytes, writtenBytes].map((bytes) => (bytes === null ? NOTHING : formatSize(bytes)));
}

function toFreedText(freed: WouldFree): string {
  const { snapshots, usedBytes, usedMetadataBytes, freeableBytes, clusterSizeBytes } = freed;
  const what = snapshots.length === 1 ? 'this snapshot' : `these ${snapshots.length} snapshots`;
  const names = snapshots.map(({ id, name }) => `  ${toPrintable(id)}  ${toPrintable(name)}\n`).join('');
  return (
    `${names}Deleting ${what} would free ${formatSize(freeableBytes)} of the file ` +
    `(${freeableBytes / clusterSizeBytes} clusters): ` +
    `${formatSize(usedBytes)} of data and ${formatSize(usedMetadataBytes)} of tables that nothing else holds.\n`
  );
}

function warnOf(problems: readonly string[]): void {
  for (const problem of problems) warn(`warning: ${toPrintable(problem)}`);
}
