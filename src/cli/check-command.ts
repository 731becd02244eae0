/** `qcow2fs check`: is the image consistent? */

import { checkImage, type ImageCheck } from '../open-image/check-image.ts';
import { formatSize, formatTable, toPrintable } from './format.ts';
import { ProgressLine } from './progress-line.ts';

export interface CheckFlags {
  readonly json?: boolean;
}

/** Those of `qemu-img check`. */
const CLEAN = 0;
const NOT_CHECKED = 1;
const CORRUPT = 2;
const LEAKS_ONLY = 3;

/** Prints the report; returns the exit code. */
export function checkCommand(imagePath: string, { json }: CheckFlags): number {
  const progress = new ProgressLine(process.stderr);
  let check: ImageCheck;
  try {
    check = checkImage(imagePath, { onProgress: (fraction) => progress.show(fraction) });
  } finally {
    progress.clear();
  }
  process.stdout.write(json ? `${JSON.stringify(check, null, 2)}\n` : toCheckText(check));
  return exitCodeOf(check);
}

export function exitCodeOf({ corruptionCount, leakedClusterCount, uncheckedCount }: ImageCheck): number {
  if (uncheckedCount > 0) return NOT_CHECKED;
  if (corruptionCount > 0) return CORRUPT;
  return leakedClusterCount > 0 ? LEAKS_ONLY : CLEAN;
}

export function toCheckText(check: ImageCheck): string {
  const { allocatedClusters, compressedClusters, corruptionCount, leakedClusterCount, uncheckedCount } = check;
  const leaked = formatSize(leakedClusterCount * check.clusterSizeBytes);
  const rows: [string, string][] = [
    ['image:', toPrintable(check.image)],
    ['verdict:', verdictOf(check)],
    ['corruptions:', String(corruptionCount)],
    ['leaked clusters:', leakedClusterCount === 0 ? '0' : `${leakedClusterCount} (up to ${leaked})`],
    ...(uncheckedCount === 0 ? [] : [['not checked:', String(uncheckedCount)] satisfies [string, string]]),
    ['allocated clusters:', `${allocatedClusters} of ${check.totalClusters}, ${compressedClusters} of them compressed`],
    ['in use up to:', `${check.imageEndBytes} bytes of ${check.fileSizeBytes}`],
  ];
  return formatTable(rows) + problemLines(check);
}

function verdictOf(check: ImageCheck): string {
  switch (exitCodeOf(check)) {
    case CLEAN:
      return 'no problems found';
    case LEAKS_ONLY:
      return 'leaks only: space is lost, no data is at risk';
    case CORRUPT:
      return 'corrupt: do not write to it before it is repaired or copied';
    default:
      return 'incomplete: a part of the image could not be checked';
  }
}

function problemLines({ countsByKind, firstProblems }: ImageCheck): string {
  const lines = Object.entries(countsByKind).flatMap(([kind, count]) => {
    const listed = firstProblems.filter((problem) => problem.kind === kind);
    return [
      '',
      `${kind}: ${count}${listed.length < count ? `, the first ${listed.length}` : ''}`,
      ...listed.map(({ offset, message }) => `  at offset ${offset}: ${toPrintable(message)}`),
    ];
  });
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}
