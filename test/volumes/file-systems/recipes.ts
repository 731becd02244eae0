/** How real tools make each kind of file system in a file. */

import fs from 'node:fs';
import path from 'node:path';
import { runCommand } from '../../support/run-command.ts';
import { makeEmptyFile } from './probing.ts';

export const MIB = 1024 * 1024;
/** The smallest that mkfs.xfs makes. */
const XFS_BYTES = 300 * MIB;
const UUID = '01234567-89ab-4cde-8f01-23456789abcd';

export interface Recipe {
  readonly title: string;
  readonly type: string;
  readonly sizeBytes: number;
  /** True, false or undefined: as it is once made. */
  readonly isDirty: boolean | undefined;
  readonly make: (file: string) => void;
}

/** A command that gets the file as its last argument. */
function tool(type: string, command: string, args: readonly string[], sizeBytes: number): Recipe {
  const title = [command, ...args].join(' ');
  return { title, type, sizeBytes, isDirty: false, make: (file) => void runCommand(command, [...args, file]) };
}

/** What `tool` says, for a format that does not tell whether it is clean. */
function unknown(...args: Parameters<typeof tool>): Recipe {
  return { ...tool(...args), isDirty: undefined };
}

/** A command that makes the file itself, from a folder with a file in it. */
function fromFolder(type: string, title: string, toArgs: (source: string, file: string) => readonly string[]): Recipe {
  return {
    title,
    type,
    sizeBytes: 0,
    isDirty: false,
    make: (file) => {
      const source = path.join(path.dirname(file), 'source');
      fs.mkdirSync(source);
      fs.writeFileSync(path.join(source, 'a file with a name'), 'content');
      fs.rmSync(file);
      const [command = '', ...args] = toArgs(source, file);
      runCommand(command, args);
    },
  };
}

function pvcreate(title: string, args: readonly string[]): Recipe {
  return {
    title,
    type: 'LVM2_member',
    sizeBytes: 32 * MIB,
    isDirty: undefined,
    make: (file) => {
      const device = runCommand('losetup', ['-f', '--show', file]).trim();
      try {
        // Only this device is looked at, and the kernel need not have a device mapper.
        const config = `devices { filter=["a|^${device}$|","r|.*|"] use_devicesfile=0 }`;
        runCommand('pvcreate', ['--driverloaded', 'n', '-q', ...args, '--config', config, device]);
        runCommand('blockdev', ['--flushbufs', device]);
      } finally {
        runCommand('losetup', ['-d', device]);
      }
    },
  };
}

const LUKS = ['luksFormat', '-q', '--key-file', '/dev/zero', '--keyfile-size', '8', '--pbkdf-force-iterations'];

export const RECIPES: readonly Recipe[] = [
  tool('ext2', 'mkfs.ext2', ['-q', '-L', 'two'], 8 * MIB),
  tool('ext2', 'mkfs.ext2', ['-q', '-b', '1024', '-U', UUID], 8 * MIB),
  tool('ext2', 'mkfs.ext2', ['-q', '-r', '0'], 8 * MIB),
  tool('ext3', 'mkfs.ext3', ['-q', '-L', 'sixteen bytes ok'], 8 * MIB),
  tool('ext3', 'mkfs.ext3', ['-q', '-b', '1024'], 8 * MIB),
  tool('ext4', 'mkfs.ext4', ['-q', '-L', ' blank ends  '], 16 * MIB),
  tool('ext4', 'mkfs.ext4', ['-q', '-b', '1024', '-O', '64bit,metadata_csum', '-L', 'wurzel\u00e4\u20ac'], 16 * MIB),
  tool('ext4', 'mkfs.ext4', ['-q', '-O', '^64bit,^metadata_csum'], 16 * MIB),
  tool('ext4', 'mkfs.ext4', ['-q', '-O', '^has_journal', '-U', UUID], 16 * MIB),
  tool('ext4', 'mkfs.ext4', ['-q', '-O', 'metadata_csum_seed,orphan_file,bigalloc'], 16 * MIB),
  tool('ext4', 'mkfs.ext4', ['-q', '-b', '65536', '-F'], 64 * MIB),
  unknown('jbd', 'mke2fs', ['-q', '-b', '4096', '-O', 'journal_dev'], 8 * MIB),
  tool('xfs', 'mkfs.xfs', ['-q', '-L', 'twelve bytes'], XFS_BYTES),
  tool('xfs', 'mkfs.xfs', ['-q', '-m', 'crc=0', '-L', 'v4'], XFS_BYTES),
  tool('xfs', 'mkfs.xfs', ['-q', '-m', 'crc=0', '-l', 'version=1'], XFS_BYTES),
  tool('xfs', 'mkfs.xfs', ['-q', '-s', 'size=4096', '-m', `uuid=${UUID}`], XFS_BYTES),
  tool('xfs', 'mkfs.xfs', ['-q', '-b', 'size=1024', '-d', 'agcount=4', '-l', 'su=256k,size=64m'], 2 * XFS_BYTES),
  tool('xfs', 'mkfs.xfs', ['-q', '-b', 'size=65536'], 2 * XFS_BYTES),
  tool('btrfs', 'mkfs.btrfs', ['-q', '-L', 'a long label with \u00fc', '-U', UUID], 128 * MIB),
  tool('btrfs', 'mkfs.btrfs', ['-q', '--csum', 'xxhash'], 128 * MIB),
  tool('btrfs', 'mkfs.btrfs', ['-q', '--csum', 'sha256', '--mixed'], 128 * MIB),
  tool('btrfs', 'mkfs.btrfs', ['-q', '--csum', 'blake2'], 128 * MIB),
  unknown('vfat', 'mkfs.vfat', ['-F', '12', '-n', 'FLOPPY'], 4 * MIB),
  tool('vfat', 'mkfs.vfat', ['-F', '16', '-n', 'SIXTEEN', '-i', '1a2b3c4d'], 16 * MIB),
  tool('vfat', 'mkfs.vfat', ['-F', '16', '-S', '4096', '-s', '1'], 32 * MIB),
  tool('vfat', 'mkfs.vfat', ['-F', '32', '-n', 'THIRTY TWO'], 64 * MIB),
  tool('vfat', 'mkfs.vfat', ['-F', '32', '-s', '1', '-f', '1'], 64 * MIB),
  {
    title: 'mkfs.vfat and mlabel, a label that is in the root directory only',
    type: 'vfat',
    sizeBytes: 64 * MIB,
    isDirty: false,
    make: (file) => {
      runCommand('mkfs.vfat', ['-F', '32', '-s', '1', file]);
      // Fills more than one cluster of the root directory before the label is made.
      for (let index = 0; index < 40; index++) runCommand('mmd', ['-i', file, `::/dir${index}`]);
      runCommand('mlabel', ['-i', file, '::LATE']);
    },
  },
  tool('exfat', 'env', ['LC_ALL=C.UTF-8', 'mkfs.exfat', '-L', 'elf \u00e4\u20ac'], 16 * MIB),
  tool('exfat', 'mkfs.exfat', ['-c', '4096'], 16 * MIB),
  tool('ntfs', 'mkfs.ntfs', ['-q', '-F', '-f', '-L', 'Daten \u00e4\u{1f600}'], 16 * MIB),
  tool('ntfs', 'mkfs.ntfs', ['-q', '-F', '-f', '-c', '65536', '-s', '512'], 16 * MIB),
  ...[4096, 8192, 16384, 32768, 65536].map((page) =>
    unknown('swap', 'mkswap', ['-q', '-p', String(page), '-L', `page ${page}`], 4 * MIB),
  ),
  unknown('swap', 'mkswap', ['-q', '-U', UUID], 4 * MIB),
  pvcreate('pvcreate', []),
  pvcreate('pvcreate --labelsector 3', ['--labelsector', '3']),
  unknown('crypto_LUKS', 'cryptsetup', [...LUKS, '1000', '--type', 'luks1'], 32 * MIB),
  unknown(
    'crypto_LUKS',
    'cryptsetup',
    [...LUKS, '1000', '--pbkdf', 'pbkdf2', '--type', 'luks2', '--label', 'secret'],
    32 * MIB,
  ),
  fromFolder('squashfs', 'mksquashfs', (source, file) => ['mksquashfs', source, file, '-quiet', '-no-progress']),
  ...[
    ['-V', 'PLAIN'],
    ['-J', '-V', 'Joliet label'],
    ['-J', '-R', '-V', 'A label of more than 16 letters'],
    ['-J', '-input-charset', 'utf-8', '-V', 'gr\u00fc\u00dfe'],
  ].map((args) =>
    fromFolder('iso9660', `genisoimage ${args.join(' ')}`, (source, file) => [
      'genisoimage',
      '-quiet',
      ...args,
      '-o',
      file,
      source,
    ]),
  ),
  fromFolder('iso9660', 'xorriso', (source, file) => [
    ...['xorriso', '-as', 'mkisofs', '-quiet', '-J', '-V', 'XORRISO_1', '-o', file, source],
  ]),
];

/** The file system of a recipe in a new file of a folder. */
export function follow(recipe: Recipe, folder: string): string {
  const file = makeEmptyFile(folder, recipe.sizeBytes);
  recipe.make(file);
  return file;
}
