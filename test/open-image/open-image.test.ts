/** Backing chains and changes of files, on images that qemu-img writes. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { closeLayers } from '../../src/open-image/layers.ts';
import {
  type ImageHeader,
  openImage,
  openImageChain,
  openImageHeader,
  openSettledImage,
} from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { catchError } from '../support/catch-error.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const qemuImg = (cwd: string, ...args: string[]) => runCommand('qemu-img', args, { cwd });
const qemuIo = (cwd: string, image: string, command: string) => runCommand('qemu-io', ['-c', command, image], { cwd });

/** Opens with `open`, hands the result to `use`, closes. */
function using<Opened extends ImageHeader, Result>(opened: Opened, use: (opened: Opened) => Result): Result {
  try {
    return use(opened);
  } finally {
    closeLayers(opened.layers);
  }
}

function createOverlay(folder: string, image: string, backing: string, format = 'qcow2'): void {
  qemuImg(folder, 'create', '-q', '-u', '-f', 'qcow2', '-b', backing, '-F', format, image, '1M');
}

function descriptorCount(): number {
  return fs.readdirSync('/proc/self/fd').length;
}

describe('a backing chain', () => {
  test('is found from the folder of each image, not from the working directory', () =>
    withTemporaryFolder((folder) => {
      fs.mkdirSync(`${folder}/bases`);
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'bases/one.qcow2', '1M');
      qemuIo(folder, 'bases/one.qcow2', 'write -P 5 0 64k');
      createOverlay(folder, 'bases/two.qcow2', 'one.qcow2');
      createOverlay(folder, 'top.qcow2', 'bases/two.qcow2');
      using(openImage(`${folder}/top.qcow2`), (image) => {
        expect(image.layers.map(({ file }) => file.path)).toEqual(
          ['top.qcow2', 'bases/two.qcow2', 'bases/one.qcow2'].map((name) => `${folder}/${name}`),
        );
        const target = Buffer.alloc(65536);
        new StateDisks(image).disk(0).readAt(target, 0, 0, 65536);
        expect(target.equals(Buffer.alloc(65536, 5))).toBe(true);
      });
    }));

  test('that is missing a file names it and who wants it, and leaves nothing open', () =>
    withTemporaryFolder((folder) => {
      createOverlay(folder, 'top.qcow2', 'gone.qcow2');
      const before = descriptorCount();
      const error = catchError(() => openImage(`${folder}/top.qcow2`));
      expect(error.code).toBe('NOT_FOUND');
      expect(error.message).toBe(`${folder}/top.qcow2 needs its backing file: ${folder}/gone.qcow2: no such file`);
      expect(descriptorCount()).toBe(before);
    }));

  test('need not be there for the header and the snapshots', () =>
    withTemporaryFolder((folder) => {
      createOverlay(folder, 'top.qcow2', 'gone.qcow2');
      using(openImageHeader(`${folder}/top.qcow2`), ({ problems }) => expect(problems).toEqual([]));
      using(openImageChain(`${folder}/top.qcow2`), ({ problems }) =>
        expect(problems.join()).toContain('gone.qcow2: no such file'),
      );
    }));

  test('that comes back to itself is refused', () =>
    withTemporaryFolder((folder) => {
      createOverlay(folder, 'a.qcow2', 'b.qcow2');
      createOverlay(folder, 'b.qcow2', 'a.qcow2');
      createOverlay(folder, 'self.qcow2', './self.qcow2');
      for (const name of ['a', 'self']) {
        const error = catchError(() => openImage(`${folder}/${name}.qcow2`));
        expect(error.code).toBe('DAMAGED');
        expect(error.message).toContain('is the image itself or stands on it');
      }
    }));

  test.each([
    ['nbd://localhost/x', 'nbd:'],
    ['json:{"driver":"file","filename":"/etc/shadow"}', 'json:'],
    ['file:base.img', 'file:'],
  ])('of the name %s is refused by its protocol', (name, protocol) =>
    withTemporaryFolder((folder) => {
      createOverlay(folder, 'top.qcow2', name, 'raw');
      const error = catchError(() => openImage(`${folder}/top.qcow2`));
      expect(error.code).toBe('UNSUPPORTED');
      expect(error.message).toContain(`${protocol} is not supported`);
    }),
  );

  test('of a format that is not read is refused by its name', () =>
    withTemporaryFolder((folder) => {
      fs.writeFileSync(`${folder}/base.vmdk`, 'x');
      createOverlay(folder, 'top.qcow2', 'base.vmdk', 'vmdk');
      expect(catchError(() => openImage(`${folder}/top.qcow2`)).message).toContain('"vmdk"');
    }));

  test('never waits on a FIFO and never opens a directory', () =>
    withTemporaryFolder((folder) => {
      runCommand('mkfifo', [`${folder}/pipe`]);
      for (const name of ['pipe', '.']) {
        createOverlay(folder, 'top.qcow2', name, 'raw');
        const error = catchError(() => openImage(`${folder}/top.qcow2`));
        expect(error.message).toContain('is neither a regular file nor a block device');
      }
    }));
});

describe('a file that changes', () => {
  test.each(['top.qcow2', 'base.qcow2'])('after it was opened makes reads STALE: %s', (changed) =>
    withTemporaryFolder(async (folder) => {
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
      createOverlay(folder, 'top.qcow2', 'base.qcow2');
      const image = await openSettledImage(`${folder}/top.qcow2`);
      using(image, () => {
        const disks = new StateDisks(image);
        disks.requireUnchanged();
        const bytes = fs.openSync(`${folder}/${changed}`, 'r+');
        fs.writeSync(bytes, 'x', 1000);
        fs.closeSync(bytes);
        const error = catchError(() => disks.requireUnchanged());
        expect(error.code).toBe('STALE');
        expect(error.message).toContain(`${folder}/${changed} was changed`);
      });
    }),
  );

  test('just before it is opened is waited for', () =>
    withTemporaryFolder(async (folder) => {
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'top.qcow2', '1M');
      const image = await openSettledImage(`${folder}/top.qcow2`);
      using(image, ({ layers }) => {
        const file = layers[0]?.file;
        expect((file?.openedAtMs ?? 0) - (file?.ctimeMs ?? 0)).toBeGreaterThanOrEqual(50);
      });
    }));

  test('all the time is not opened', () =>
    withTemporaryFolder(async (folder) => {
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'top.qcow2', '1M');
      const writer = setInterval(() => fs.utimesSync(`${folder}/top.qcow2`, new Date(), new Date()), 5);
      try {
        await expect(openSettledImage(`${folder}/top.qcow2`)).rejects.toMatchObject({ code: 'STALE' });
      } finally {
        clearInterval(writer);
      }
    }));
});
