/** Disks with superblocks of more than one file system, or of none. */

import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Random } from '../../oracle/random.ts';
import { runCommand } from '../../support/run-command.ts';
import { withTemporaryFolder } from '../../support/temporary-folder.ts';
import { askBlkid, makeEmptyFile, nameOnly, probeFile } from './probing.ts';
import { MIB } from './recipes.ts';

const EXT_SUPERBLOCK_OFFSET = 1024;

/** Puts the superblock of an ext4 where another mkfs left room for it. */
function addExt4(folder: string, file: string): void {
  const other = makeEmptyFile(folder, 16 * MIB, 'ext4.raw');
  runCommand('mkfs.ext4', ['-q', other]);
  const superblock = fs.readFileSync(other).subarray(EXT_SUPERBLOCK_OFFSET, 2 * EXT_SUPERBLOCK_OFFSET);
  const fd = fs.openSync(file, 'r+');
  try {
    fs.writeSync(fd, superblock, 0, superblock.length, EXT_SUPERBLOCK_OFFSET);
  } finally {
    fs.closeSync(fd);
  }
}

describe('two file systems', () => {
  it.each([
    {
      types: 'ext4,btrfs',
      make: (folder: string, file: string) => {
        fs.truncateSync(file, 128 * MIB);
        runCommand('mkfs.btrfs', ['-q', file]);
        addExt4(folder, file);
      },
    },
    {
      types: 'vfat,ext4',
      make: (folder: string, file: string) => {
        runCommand('mkfs.vfat', ['-F', '32', '-f', '1', '-R', '64', file]);
        addExt4(folder, file);
      },
    },
    { types: 'swap,ext4', make: (_: string, file: string) => makeSwapBesideExt4(file) },
  ])('$types are told as neither, with a problem that names both', ({ types, make }) =>
    withTemporaryFolder((folder) => {
      const file = makeEmptyFile(folder, 64 * MIB);
      make(folder, file);
      expect(askBlkid(file)).toBe('ambivalent');
      const { probe, problems } = probeFile(file);
      expect(probe).toBeUndefined();
      expect(problems.map(({ code, data }) => ({ code, data }))).toEqual([{ code: 'DAMAGED', data: { types } }]);
    }),
  );

  it('on a tiny disk are the first of them', () =>
    withTemporaryFolder((folder) => {
      const file = makeEmptyFile(folder, MIB);
      runCommand('mkfs.vfat', ['-F', '12', '-R', '8', file]);
      addExt4(folder, file);
      expect(nameOnly(probeFile(file))).toEqual(askBlkid(file));
      expect(probeFile(file)).toMatchObject({ probe: { type: 'vfat' }, problems: [] });
    }));

  it('are the container, if one is one', () =>
    withTemporaryFolder((folder) => {
      const file = makeEmptyFile(folder, 32 * MIB);
      const key = ['--key-file', '/dev/zero', '--keyfile-size', '8', '--pbkdf-force-iterations', '1000'];
      runCommand('cryptsetup', ['luksFormat', '-q', '--type', 'luks1', ...key, file]);
      addExt4(folder, file);
      expect(nameOnly(probeFile(file))).toEqual(askBlkid(file));
      expect(probeFile(file)).toMatchObject({ probe: { type: 'crypto_LUKS' }, problems: [] });
    }));
});

/** A swap area of version 0 is its magic alone. */
function makeSwapBesideExt4(file: string): void {
  runCommand('mkfs.ext4', ['-q', file]);
  const fd = fs.openSync(file, 'r+');
  try {
    fs.writeSync(fd, 'SWAP-SPACE', 65536 - 'SWAP-SPACE'.length, 'latin1');
  } finally {
    fs.closeSync(fd);
  }
}

describe('no file system', () => {
  it.each([0, 512, 1024, 1025, 4096, MIB, 64 * MIB])('is in %d bytes of zeros', (sizeBytes) =>
    withTemporaryFolder((folder) => {
      const file = makeEmptyFile(folder, sizeBytes);
      expect(probeFile(file)).toEqual({ probe: undefined, problems: [] });
    }),
  );

  it('is in random bytes, nor behind an offset that is not its own', () =>
    withTemporaryFolder((folder) => {
      const random = new Random(7);
      const file = makeEmptyFile(folder, 0);
      for (let round = 0; round < 50; round++) {
        fs.writeFileSync(file, random.bytes(1 + random.below(256 * 1024)));
        expect(probeFile(file)).toEqual({ probe: undefined, problems: [] });
      }
      const ext4 = makeEmptyFile(folder, 16 * MIB, 'ext4.raw');
      runCommand('mkfs.ext4', ['-q', ext4]);
      fs.writeFileSync(file, Buffer.concat([Buffer.alloc(MIB), fs.readFileSync(ext4)]));
      expect(askBlkid(file)).toBe('nothing');
      expect(probeFile(file)).toEqual({ probe: undefined, problems: [] });
    }));
});
