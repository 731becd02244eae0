/** Backing chains and changes of files, on images that qemu-img writes. */

import fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ImageStatus } from '../../src/open-image/image-status.ts';
import { withoutKeys } from '../../src/open-image/layer-keys.ts';
import { closeLayers } from '../../src/open-image/layers.ts';
import {
  type ImageHeader,
  openImage,
  openImageChain,
  openImageHeader,
  openSettledImage,
} from '../../src/open-image/open-image.ts';
import { StateDisks } from '../../src/open-image/state-disks.ts';
import { StateFiles } from '../../src/open-image/state-files.ts';
import { catchError } from '../support/catch-error.ts';
import { countDescriptors } from '../support/descriptors.ts';
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

describe('a backing chain', () => {
  test('is found from the folder of each image, not from the working directory', () =>
    withTemporaryFolder((folder) => {
      fs.mkdirSync(`${folder}/bases`);
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'bases/one.qcow2', '1M');
      qemuIo(folder, 'bases/one.qcow2', 'write -P 5 0 64k');
      createOverlay(folder, 'bases/two.qcow2', 'one.qcow2');
      createOverlay(folder, 'top.qcow2', 'bases/two.qcow2');
      using(openImage(`${folder}/top.qcow2`, withoutKeys, { allowedFolders: [folder] }), (image) => {
        expect(image.layers.map(({ file }) => file.path)).toEqual(
          ['top.qcow2', 'bases/two.qcow2', 'bases/one.qcow2'].map((name) => `${folder}/${name}`),
        );
        const target = Buffer.alloc(65536);
        new StateDisks(image).disk(0).readAt(target, 0, 0, 65536);
        expect(target.equals(Buffer.alloc(65536, 5))).toBe(true);
      });
    }));

  test('shares one memory for inflated clusters of a size, of which a raw file has none', () =>
    withTemporaryFolder((folder) => {
      fs.writeFileSync(`${folder}/base.raw`, Buffer.alloc(1 << 20));
      createOverlay(folder, 'one.qcow2', 'base.raw', 'raw');
      createOverlay(folder, 'two.qcow2', 'one.qcow2');
      using(openImage(`${folder}/two.qcow2`), ({ clusterMemories: [two, one, base] }) => {
        expect(two).toBe(one);
        expect(base).toBeUndefined();
        expect(two?.blocks.byteLength).toBe(32 << 20);
      });
    }));

  test('that is missing a file names it and who wants it, and leaves nothing open', () =>
    withTemporaryFolder((folder) => {
      createOverlay(folder, 'top.qcow2', 'gone.qcow2');
      const before = countDescriptors();
      const error = catchError(() => openImage(`${folder}/top.qcow2`));
      expect(error.code).toBe('NOT_FOUND');
      expect(error.message).toContain(`${folder}/top.qcow2 needs its backing file: ${folder}/gone.qcow2: no such file`);
      expect(error.message).toContain('--backing');
      expect(countDescriptors()).toBe(before);
    }));

  test('need not be there for the header and the snapshots', () =>
    withTemporaryFolder((folder) => {
      createOverlay(folder, 'top.qcow2', 'gone.qcow2');
      using(openImageHeader(`${folder}/top.qcow2`), ({ problems }) => expect(problems).toEqual([]));
      using(openImageChain(`${folder}/top.qcow2`), ({ problems }) =>
        expect(problems.join()).toContain('gone.qcow2: no such file'),
      );
    }));

  test('with a damaged file is told of by the name of that file', () =>
    withTemporaryFolder((folder) => {
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
      createOverlay(folder, 'top.qcow2', 'base.qcow2');
      const bytes = fs.readFileSync(`${folder}/base.qcow2`);
      bytes.writeBigUInt64BE(1n << 40n, Number(bytes.readBigUInt64BE(40)));
      fs.writeFileSync(`${folder}/base.qcow2`, bytes);
      const told = `backing file ${folder}/base.qcow2: the current state: the L2 table at offset 1099511627776`;
      for (const open of [openImage, openImageChain]) {
        using<ImageHeader, void>(open(`${folder}/top.qcow2`), ({ problems }) =>
          expect(problems).toEqual([expect.stringContaining(told)]),
        );
      }
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
    ['json:{"driver":"nbd","host":"localhost"}', 'the driver "nbd"'],
    ['json:{"driver":[{"toString":1}]}', 'the driver "[{"toString":1}]"'],
    ['json:{"file":{"driver":[{"toString":1}],"filename":"x"}}', 'the driver "[{"toString":1}]"'],
    ['json:{"driver":["file"],"filename":"x"}', 'the driver "["file"]"'],
    ['json:{"driver":"qcow2","lazy-refcounts":true,"file":{"filename":"x"}}', 'the option "lazy-refcounts"'],
    ['json:{"driver":"raw","offset":512,"file":{"driver":"file","filename":"x"}}', 'the option "offset"'],
    ['json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"x"}}', 'the option "backing"'],
    ['http://localhost/x', 'http:'],
  ])('of the name %s is refused by what is not supported', (name, what) =>
    withTemporaryFolder((folder) => {
      createOverlay(folder, 'top.qcow2', name, 'raw');
      const error = catchError(() => openImage(`${folder}/top.qcow2`));
      expect(error.code).toBe('UNSUPPORTED');
      expect(error.message).toContain(`${what} is not supported`);
    }),
  );

  test('of a format that is not read is refused by its name', () =>
    withTemporaryFolder((folder) => {
      fs.writeFileSync(`${folder}/base.vmdk`, 'x');
      createOverlay(folder, 'top.qcow2', 'base.vmdk', 'vmdk');
      expect(catchError(() => openImage(`${folder}/top.qcow2`)).message).toContain('"vmdk"');
    }));

  test.each([
    ['base.raw', undefined],
    ['file:base.raw', undefined],
    ['json:{"driver":"raw","file":{"driver":"file","filename":"base.raw"}}', undefined],
    ['json:{"driver":"raw","file.filename":"base.raw","file.locking":"off"}', undefined],
    ['gone.raw', 'base.raw'],
  ])('of the name %s is opened (with --backing %s)', (name, backing) =>
    withTemporaryFolder((folder) => {
      fs.writeFileSync(`${folder}/base.raw`, Buffer.alloc(1 << 20, 9));
      createOverlay(folder, 'top.qcow2', name, 'raw');
      const chain = { allowedFolders: [], ...(backing && { backingPath: `${folder}/${backing}` }) };
      using(openImage(`${folder}/top.qcow2`, withoutKeys, chain), (image) => {
        const target = Buffer.alloc(1 << 20);
        new StateDisks(image).disk(0).readAt(target, 0, 0, target.length);
        expect(target.equals(Buffer.alloc(1 << 20, 9))).toBe(true);
      });
    }),
  );

  test('that is left out fails what would come from it, and nothing else', () =>
    withTemporaryFolder((folder) => {
      createOverlay(folder, 'top.qcow2', 'gone.qcow2');
      runCommand('qemu-img', ['rebase', '-u', '-b', '', 'top.qcow2'], { cwd: folder });
      qemuIo(folder, 'top.qcow2', 'write -P 5 64k 64k');
      runCommand('qemu-img', ['rebase', '-u', '-b', 'gone.qcow2', '-F', 'qcow2', 'top.qcow2'], { cwd: folder });
      using(openImage(`${folder}/top.qcow2`, withoutKeys, { allowedFolders: [], backingPath: null }), (image) => {
        const disk = new StateDisks(image).disk(0);
        const target = Buffer.alloc(65536);
        disk.readAt(target, 0, 65536, 65536);
        expect(target.equals(Buffer.alloc(65536, 5))).toBe(true);
        const error = catchError(() => disk.readAt(target, 0, 0, 512));
        expect(error.message).toContain('come from its backing file, which was left out');
        expect(disk.allocatedBytes()).toBe(1 << 20);
      });
    }));

  test.each(['absolute', 'up', 'symlink', 'json'])(
    'outside of the folder of the image is refused (%s), unless allowed',
    (kind) =>
      withTemporaryFolder((folder) => {
        fs.mkdirSync(`${folder}/images`);
        fs.mkdirSync(`${folder}/secret`);
        fs.writeFileSync(`${folder}/secret/shadow`, 'root:x');
        fs.symlinkSync('../secret/shadow', `${folder}/images/link`);
        const names: Record<string, string> = {
          absolute: `${folder}/secret/shadow`,
          up: '../secret/shadow',
          symlink: 'link',
          json: `json:{"driver":"raw","file":{"driver":"file","filename":"${folder}/secret/shadow"}}`,
        };
        createOverlay(`${folder}/images`, 'top.qcow2', names[kind] ?? '', 'raw');
        const image = `${folder}/images/top.qcow2`;
        const error = catchError(() => openImage(image));
        expect(error.code).toBe('REFUSED');
        expect(error.message).toContain(`--allow-path ${fs.realpathSync(folder)}/secret`);
        using(openImage(image, withoutKeys, { allowedFolders: [folder] }), ({ layers }) =>
          expect(layers).toHaveLength(2),
        );
      }),
  );

  test.each(['vmdk', 'vdi', 'vhdx', 'vpc', 'qed'])(
    'of no named format that looks like %s is not read as raw',
    (format) =>
      withTemporaryFolder((folder) => {
        qemuImg(folder, 'create', '-q', '-f', format, 'base.img', '8M');
        createOverlay(folder, 'top.qcow2', 'base.img', 'raw');
        // The header extension with the format becomes one that nobody knows, as in images that were made without it.
        const bytes = fs.readFileSync(`${folder}/top.qcow2`);
        bytes.writeUInt32BE(0x12345678, bytes.indexOf(Buffer.from('e2792aca', 'hex')));
        fs.writeFileSync(`${folder}/top.qcow2`, bytes);
        const error = catchError(() => openImage(`${folder}/top.qcow2`));
        expect(error.code).toBe('UNSUPPORTED');
        expect(error.message).toContain('does not say the format of its backing file');
      }),
  );

  test('never waits on a FIFO and never opens a directory', () =>
    withTemporaryFolder((folder) => {
      runCommand('mkfifo', [`${folder}/pipe`]);
      fs.mkdirSync(`${folder}/directory`);
      for (const name of ['pipe', 'directory']) {
        createOverlay(folder, 'top.qcow2', name, 'raw');
        const error = catchError(() => openImage(`${folder}/top.qcow2`));
        expect(error.message).toContain('is neither a regular file nor a block device');
      }
    }));
});

describe('a file that changes', () => {
  test.each(['top.qcow2', 'base.qcow2'])('after it was opened makes reads of the current state STALE: %s', (changed) =>
    withTemporaryFolder(async (folder) => {
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
      createOverlay(folder, 'top.qcow2', 'base.qcow2');
      const image = await openSettledImage(`${folder}/top.qcow2`);
      using(image, () => {
        const disk = new StateFiles(image, new ImageStatus(ImageStatus.createMemory())).disk(0);
        disk.readAt(Buffer.alloc(512), 0, 0, 512);
        const bytes = fs.openSync(`${folder}/${changed}`, 'r+');
        fs.writeSync(bytes, 'x', 1000);
        fs.closeSync(bytes);
        const error = catchError(() => disk.readAt(Buffer.alloc(512), 0, 0, 512));
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

  test('all the time is opened if it is the image, and its snapshots can be read', () =>
    withTemporaryFolder((folder) => {
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'top.qcow2', '1M');
      qemuIo(folder, 'top.qcow2', 'write -P 5 0 64k');
      qemuImg(folder, 'snapshot', '-c', 'monday', 'top.qcow2');
      return whileTouched(`${folder}/top.qcow2`, async () => {
        const image = await openSettledImage(`${folder}/top.qcow2`);
        using(image, () => {
          const files = new StateFiles(image, new ImageStatus(ImageStatus.createMemory()));
          const target = Buffer.alloc(65536);
          files.disk(1).readAt(target, 0, 0, target.length);
          expect(target.equals(Buffer.alloc(65536, 5))).toBe(true);
          expect(catchError(() => files.disk(0).readAt(target, 0, 0, target.length)).code).toBe('STALE');
        });
      });
    }));

  test('all the time is not opened if the image stands on it', () =>
    withTemporaryFolder((folder) => {
      qemuImg(folder, 'create', '-q', '-f', 'qcow2', 'base.qcow2', '1M');
      createOverlay(folder, 'top.qcow2', 'base.qcow2');
      return whileTouched(`${folder}/base.qcow2`, () =>
        expect(openSettledImage(`${folder}/top.qcow2`)).rejects.toMatchObject({ code: 'STALE' }),
      );
    }));
});

async function whileTouched(path: string, body: () => Promise<void>): Promise<void> {
  const writer = setInterval(() => fs.utimesSync(path, new Date(), new Date()), 5);
  try {
    await body();
  } finally {
    clearInterval(writer);
  }
}
