/** Formats that no tool at hand writes, or not so: bytes put in place, and told as libblkid tells them. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { runCommand } from '../../support/run-command.ts';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';
import { askBlkid, makeEmptyFile, nameOnly, probeFile } from './probing.ts';
import { MIB } from './recipes.ts';

interface HandMade {
  readonly title: string;
  readonly type: string;
  readonly mkfs?: readonly string[];
  readonly patches: readonly (readonly [offset: number, bytes: string])[];
}

/** A descriptor of a CD of 1986, whose root directory is in block 20. */
const HIGH_SIERRA: HandMade['patches'] = [
  [32768 + 8, '\x01CDROM\x01'],
  [32768 + 8 + 40, 'OLD DISC'.padEnd(32)],
  [32768 + 8 + 80, '\x40\0\0\0'],
  [32768 + 8 + 128, '\x00\x08\x08\x00'],
  [32768 + 8 + 172, '\x22\0\x14\0\0\0\0\0\0\x14\0\x08\0\0\0\0\x08\0'],
  [32768 + 8 + 782, '1986052812000000'],
  [32768 + 8 + 798, '1987052812000000'],
  [34816 + 8, '\xffCDROM\x01'],
  [40960, '\x22\0\x14\0\0\0\0\0\0\x14\0\x08\0\0\0\0\x08\0'],
  [40960 + 32, '\x01\0'],
];

const CASES: readonly HandMade[] = [
  { title: 'swap, version 0', type: 'swap', patches: [[4086, 'SWAP-SPACE']] },
  {
    title: 'swap, big-endian',
    type: 'swap',
    patches: [
      [4086, 'SWAPSPACE2'],
      [1024, '\0\0\0\x01\0\0\x03\xff'],
    ],
  },
  ...['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001'].map((magic) => ({
    title: `swap with ${magic}`,
    type: 'swsuspend',
    mkfs: ['mkswap', '-q', '-L', 'sleeps', '-p', '8192'],
    patches: [[8182, magic.padEnd(10, '\0')]] as const,
  })),
  {
    title: 'swap with TuxOnIce',
    type: 'swsuspend',
    mkfs: ['mkswap', '-q'],
    patches: [[0, '\xed\xc3\x02\xe9\x98\x56\xe5\x0c']],
  },
  {
    title: 'squashfs 3, little-endian',
    type: 'squashfs3',
    patches: [
      [0, 'hsqs'],
      [28, '\x03\0\x01\0'],
    ],
  },
  {
    title: 'squashfs 3, big-endian',
    type: 'squashfs3',
    patches: [
      [0, 'sqsh'],
      [28, '\0\x03\0\x01'],
    ],
  },
  { title: 'BitLocker', type: 'BitLocker', patches: [[0, '\xeb\x52\x90-FVE-FS-']] },
  {
    title: 'an ext4 label with control characters',
    type: 'ext4',
    mkfs: ['mkfs.ext4', '-q', '-O', '^metadata_csum'],
    patches: [[1024 + 120, 'a\tb\x01\x7f \n\t\0xyz']],
  },
  {
    title: 'an ext4 label of blanks',
    type: 'ext4',
    mkfs: ['mkfs.ext4', '-q', '-O', '^metadata_csum'],
    patches: [[1024 + 120, '    \0']],
  },
  {
    title: 'an ext4 without a UUID',
    type: 'ext4',
    mkfs: ['mkfs.ext4', '-q', '-O', '^metadata_csum'],
    patches: [[1024 + 104, '\0'.repeat(16)]],
  },
];

function make(folder: string, { mkfs, patches }: HandMade): string {
  const file = makeEmptyFile(folder, 8 * MIB);
  const [command, ...args] = mkfs ?? [];
  if (command !== undefined) runCommand(command, [...args, file]);
  const fd = fs.openSync(file, 'r+');
  try {
    for (const [offset, bytes] of patches) fs.writeSync(fd, bytes, offset, 'latin1');
  } finally {
    fs.closeSync(fd);
  }
  return file;
}

describe.each(CASES)('$title', (handMade) => {
  it('is told as libblkid tells it', () =>
    withTemporaryFolder((folder) => {
      const file = make(folder, handMade);
      const outcome = probeFile(file);
      expect(nameOnly(outcome)).toEqual(askBlkid(file));
      expect(outcome).toMatchObject({ probe: { type: handMade.type }, problems: [] });
    }));
});

describe('High Sierra', () => {
  it('is told as libblkid tells it, with the date that only newer ones tell', () =>
    withTemporaryFolder((folder) => {
      const file = make(folder, { title: '', type: 'iso9660', patches: HIGH_SIERRA });
      expect(askBlkid(file)).toMatchObject({ type: 'iso9660', label: 'OLD DISC' });
      expect(nameOnly(probeFile(file))).toEqual({ type: 'iso9660', label: 'OLD DISC', uuid: '1987-05-28-12-00-00-00' });
    }));
});

describe('a checksum that is wrong', () => {
  it.each([
    { type: 'ext4', mkfs: ['mkfs.ext4', '-q', '-O', 'metadata_csum'], offset: 1024 + 130, sizeBytes: 16 * MIB },
    { type: 'xfs', mkfs: ['mkfs.xfs', '-q'], offset: 300, sizeBytes: 300 * MIB },
    { type: 'btrfs, CRC32c', mkfs: ['mkfs.btrfs', '-q'], offset: 65536 + 4000, sizeBytes: 128 * MIB },
    {
      type: 'btrfs, xxHash',
      mkfs: ['mkfs.btrfs', '-q', '--csum', 'xxhash'],
      offset: 65536 + 4000,
      sizeBytes: 128 * MIB,
    },
    {
      type: 'btrfs, SHA-256',
      mkfs: ['mkfs.btrfs', '-q', '--csum', 'sha256'],
      offset: 65536 + 4000,
      sizeBytes: 128 * MIB,
    },
    { type: 'exfat', mkfs: ['mkfs.exfat'], offset: 400, sizeBytes: 16 * MIB },
  ])('of $type makes it none', ({ mkfs, offset, sizeBytes }) =>
    withTemporaryFolder((folder) => {
      const file = makeEmptyFile(folder, sizeBytes);
      const [command = '', ...args] = mkfs;
      runCommand(command, [...args, file]);
      expect(probeFile(file).probe).toBeDefined();
      const fd = fs.openSync(file, 'r+');
      try {
        fs.writeSync(fd, 'x', offset, 'latin1');
      } finally {
        fs.closeSync(fd);
      }
      expect(probeFile(file)).toEqual({ probe: undefined, problems: [] });
    }),
  );
});

describe('a label that is not UTF-8', () => {
  it('has each of its bytes as a character', () =>
    withTemporaryFolder((folder) => {
      const mkfs = ['mkfs.ext4', '-q', '-O', '^metadata_csum'];
      const file = make(folder, { title: '', type: 'ext4', mkfs, patches: [[1024 + 120, 'gr\xfc\xdfe\0']] });
      expect(probeFile(file).probe?.label).toBe('gr\u00fc\u00dfe');
    }));
});
