/** The size that a superblock tells, compared with what the file system's own tools say. */

import { describe, expect, it } from 'vitest';
import { runCommand } from '../../support/run-command.ts';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';
import { probeFile } from './probing.ts';
import { follow, RECIPES } from './recipes.ts';

/** Reads the numbers that `pattern` finds in what a tool prints, and multiplies them. */
function product(command: string, args: readonly string[], ...patterns: readonly RegExp[]): number {
  const text = runCommand(command, args);
  return patterns.reduce((result, pattern) => result * Number(text.match(pattern)?.[1]), 1);
}

const TOOLS: Readonly<Record<string, (file: string) => number>> = {
  ext2: extBytes,
  ext3: extBytes,
  ext4: extBytes,
  xfs: (file) =>
    product(
      'xfs_db',
      ['-r', '-c', 'sb 0', '-c', 'print dblocks blocksize', file],
      /dblocks = (\d+)/,
      /blocksize = (\d+)/,
    ),
  btrfs: (file) => product('btrfs', ['inspect-internal', 'dump-super', file], /^total_bytes\s+(\d+)/m),
  vfat: (file) => product('minfo', ['-i', file, '::'], /sector size: (\d+)/, /(?:big|small) size: ([1-9]\d*)/),
  exfat: (file) => 512 * product('dump.exfat', [file], /Volume Length\(sectors\):\s+(\d+)/),
  ntfs: (file) =>
    Math.floor(product('ntfsinfo', ['-m', file], /Cluster Size: (\d+)/, /Volume Size in Clusters: (\d+)/)),
  iso9660: (file) => product('isoinfo', ['-d', '-i', file], /Logical block size is: (\d+)/, /Volume size is: (\d+)/),
};

function extBytes(file: string): number {
  return product('dumpe2fs', ['-h', file], /^Block count: +(\d+)/m, /^Block size: +(\d+)/m);
}

const SAMPLES = RECIPES.filter(({ type }) => type in TOOLS);

describe.each(SAMPLES)('$title', (recipe) => {
  it('has the size that its tools tell', () =>
    withTemporaryFolder((folder) => {
      const file = follow(recipe, folder);
      const told = probeFile(file).probe?.sizeBytes ?? 0;
      const expected = TOOLS[recipe.type]?.(file) ?? Number.NaN;
      // ntfsinfo(8) counts whole clusters.
      if (recipe.type === 'ntfs') expect(told - expected).toBeLessThan(65536);
      else expect(told).toBe(expected);
      expect(told).toBeGreaterThanOrEqual(expected);
    }));
});
