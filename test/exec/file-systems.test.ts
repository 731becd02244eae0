/** Which volumes a command can be run in, and that their journals are replayed. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { makePartitionedImage } from '../mounted/partitioned-image.ts';
import { createSnapshot } from '../oracle/qemu.ts';
import { DIRTY_FILE_SYSTEMS, makeDirtyImage, whileMounted } from '../scratch/dirty-image.ts';
import { runCommand } from '../support/run-command.ts';
import { MIB } from '../volumes/partitioned-disk.ts';
import { whileUnchanged, withExec } from './exec-place.ts';

test.each(DIRTY_FILE_SYSTEMS)(
  '$type of a running machine: all that was fsynced is there, as the kernel recovers it',
  (kind) =>
    withExec(async ({ exec, folder }) => {
      const { image, copy, fileCount } = makeDirtyImage(folder, kind);
      const recovered = `${folder}/recovered`;
      fs.mkdirSync(recovered);
      await whileUnchanged(image, () =>
        whileMounted(copy, recovered, kind.options, () => {
          const script =
            'diff -r "$1" . && ls | grep -c "^file" && findmnt --noheadings --output FSTYPE --target . | tail -n 1';
          const result = exec([image, 'night', '--', 'sh', '-c', script, 'sh', recovered]);
          expect(result).toEqual({ status: 0, stdout: `${fileCount}\n${kind.type}\n`, stderr: '' });
        }),
      );
    }),
);

describe('a disk with partitions and a volume group', () => {
  test('each file system by its name, its label and its UUID', () =>
    withExec(async ({ exec, folder }) => {
      const { path: image, volumes, states } = await makePartitionedImage(folder);
      await whileUnchanged(image, () => {
        for (const [index, { name, label, uuid }] of volumes.entries()) {
          for (const [place, { source }] of states.entries()) {
            // Each of them once, and each kind of name.
            const words = [[name, label, uuid][(index + place) % 3] ?? '', '--', 'diff', '-r', '--exclude=lost+found'];
            const result = exec([image, ['monday', 'current'][place] ?? '', ...words, source, '.']);
            expect({ name, ...result }).toEqual({ name, status: 0, stdout: '', stderr: '' });
          }
        }
        const ambiguous = exec([image, 'monday', '--', 'true']);
        expect(ambiguous.status).toBe(2);
        expect(ambiguous.stderr).toMatch(
          /p1 \(ext4, boot, 25165824 bytes\), p2 \(xfs, data, .*, vg-root \(ext4, root, /,
        );
        const member = exec([image, 'monday', 'p4', '--', 'true']);
        expect(member.status).toBe(125);
        expect(member.stderr).toMatch(/^qcow2fs: p4 of monday cannot be mounted: it holds LVM2_member: [^\n]*\n$/);
      });
    }));
});

interface Content {
  readonly title: string;
  readonly make: (raw: string) => void;
  readonly message: RegExp;
}

/** What is on a disk, and what is said about it. */
const UNMOUNTABLE: readonly Content[] = [
  {
    title: 'swap space',
    make: (raw) => runCommand('mkswap', [raw]),
    message: /disk of night cannot be mounted: it holds swap: swap space/,
  },
  {
    title: 'an encrypted volume',
    make: (raw) => {
      const options = ['--type', 'luks2', '--pbkdf', 'pbkdf2', '--pbkdf-force-iterations', '1000'];
      runCommand('cryptsetup', ['luksFormat', '--batch-mode', ...options, raw, '-'], { input: 'secret' });
    },
    message: /disk of night cannot be mounted: it holds crypto_LUKS: an encrypted volume/,
  },
  {
    title: 'a file system whose journal cannot be read',
    make: (raw) => {
      runCommand('mkfs.ext4', ['-q', '-b', '1024', raw]);
      // Its inode says that it is no file.
      runCommand('debugfs', ['-w', '-R', 'set_inode_field <8> mode 0', raw]);
    },
    message: /cannot mount disk \(ext4\): .*Structure needs cleaning; the kernel says: .*loop\d+/,
  },
];

test.each(UNMOUNTABLE)('$title: 125, and why', ({ make, message }) =>
  withExec(async ({ exec, folder }) => {
    const [raw, image] = [`${folder}/disk.raw`, `${folder}/disk.qcow2`];
    fs.writeFileSync(raw, '');
    fs.truncateSync(raw, 32 * MIB);
    make(raw);
    runCommand('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, image]);
    createSnapshot(image, 'night');
    const { status, stdout, stderr } = exec([image, 'night', 'disk', '--', 'true']);
    expect([status, stdout]).toEqual([125, '']);
    expect(stderr).toMatch(/^qcow2fs: [^\n]*\n$/);
    expect(stderr).toMatch(message);
  }),
);
