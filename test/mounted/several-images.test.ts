/** The disks of one machine in one mount. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { findMount } from '../../src/fuse/mountinfo.ts';
import { waitUntil } from '../daemon/mounting.ts';
import { createEncryptedImage } from '../oracle/encrypted.ts';
import { createImage, createSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { sha256OfFile } from '../support/hash.ts';
import { type CommandResult, runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { typeOnTerminal } from '../support/terminal.ts';
import { LUKS, writePassphrase } from './encrypted-image.ts';

const QCOW2FS = path.resolve(import.meta.dirname, '../../bin/qcow2fs');
const SIZE_BYTES = 1024 * 1024;

/** An image with one snapshot, in which every byte is `value` there and one more now. */
function makeImage(image: string, value: number): string {
  fs.mkdirSync(path.dirname(image), { recursive: true });
  createImage(image, { sizeBytes: SIZE_BYTES });
  runQemuIo(image, [`write -q -P ${value} 0 100k`]);
  createSnapshot(image, 'monday');
  runQemuIo(image, [`write -q -P ${value + 1} 0 100k`]);
  return image;
}

const firstByte = (file: string) => {
  const fd = fs.openSync(file, 'r');
  try {
    return byteOf(fd);
  } finally {
    fs.closeSync(fd);
  }
};

const byteOf = (fd: number) => {
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, 0);
  return byte[0];
};

const isReadable = (file: string) => tryCommand('head', ['-c1', file]).status === 0;

describe('several images in one mount', () => {
  test('are a folder each, named like the file, with the layout of a single one', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      const images = [makeImage(`${folder}/vm-root.qcow2`, 1), makeImage(`${folder}/vm-data.qcow2`, 11)];
      expect(mount(...images)).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(fs.readdirSync(mountpoint).sort()).toEqual(['vm-data', 'vm-root']);
      for (const [index, name] of ['vm-root', 'vm-data'].entries()) {
        const at = `${mountpoint}/${name}`;
        expect(fs.readdirSync(at)).toEqual(['by-date', 'by-id', 'current', 'image.json', 'snapshots']);
        expect(JSON.parse(fs.readFileSync(`${at}/image.json`, 'utf8')).image).toBe(images[index]);
        const truth = `${folder}/truth.raw`;
        runCommand('qemu-img', ['convert', '-O', 'raw', '-l', 'monday', images[index] ?? '', truth]);
        expect(sha256OfFile(`${at}/snapshots/monday/disk.raw`)).toBe(sha256OfFile(truth));
        expect(sha256OfFile(`${at}/by-id/1/disk.raw`)).toBe(sha256OfFile(truth));
      }
      const nodes = runCommand('find', [mountpoint, '-printf', '%i\\n']).trimEnd().split('\n');
      expect(new Set(nodes).size).toBe(nodes.length);
      expect(findMount(mountpoint)?.source).toBe(`${images[0]}+1`);
    }));

  test('may have paths that are too long for one argument together', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      const image = makeImage(path.join(folder, ...Array(6).fill('f'.repeat(250)), '0.qcow2'), 1);
      const images = [
        image,
        ...Array.from({ length: 99 }, (_, index) => image.replace('0.qcow2', `${index + 1}.qcow2`)),
      ];
      for (const copy of images.slice(1)) fs.copyFileSync(image, copy);
      expect(mount(...images)).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(fs.readdirSync(mountpoint)).toHaveLength(images.length);
      expect(firstByte(`${mountpoint}/99/snapshots/monday/disk.raw`)).toBe(1);
      expect(tryCommand(QCOW2FS, ['umount', mountpoint])).toEqual({ status: 0, stdout: '', stderr: '' });
      expect(findMount(mountpoint)).toBeUndefined();
    }));

  test('with options that are too long for the kernel are one line, and nothing is mounted', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      const image = makeImage(`${folder}/vm.qcow2`, 1);
      // MAX_ARG_STRLEN (include/uapi/linux/binfmts.h): 128 KiB where pages are 4 KiB.
      const allowed = Array.from({ length: 100 }, (_, index) => [
        '--allow-path',
        `/${'d/'.repeat(2000)}${index}`,
      ]).flat();
      const { status, stderr } = mount(...allowed, image);
      expect(stderr).toMatch(
        /^qcow2fs: \S*node cannot be run: its arguments .* longer than the kernel takes [^\n]*\n$/,
      );
      expect(status).toBe(1);
      expect(findMount(mountpoint)).toBeUndefined();
    }));

  test('have inode numbers of their own through fuse-native too', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      const images = [makeImage(`${folder}/vm-root.qcow2`, 1), makeImage(`${folder}/vm-data.qcow2`, 11)];
      expect(mount('--transport', 'fuse-native', ...images)).toEqual({ status: 0, stdout: '', stderr: '' });
      const find = () => runCommand('find', [mountpoint, '-printf', '%i %p\\n']).trimEnd().split('\n');
      const nodes = find();
      expect(new Set(nodes.map((node) => node.split(' ')[0])).size).toBe(nodes.length);
      expect(find()).toEqual(nodes);
      const disks = ['vm-root', 'vm-data'].map((name) => firstByte(`${mountpoint}/${name}/current/disk.raw`));
      expect(disks).toEqual([2, 12]);
    }));

  test('have names of their own when their files have the same, or one that is no file name', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      const files = ['a/disk.qcow2', 'b/disk.qcow2', 'disk.img', '100%.2026.qcow2', '...qcow2', 'd\u00e4ta'];
      mount(...files.map((file, index) => makeImage(`${folder}/${file}`, index * 10 + 1)));
      const values = ['disk', 'disk%id=2', 'disk%id=3', '100%25.2026', '%2E%2E', 'd\u00e4ta'].map((name) =>
        firstByte(`${mountpoint}/${name}/snapshots/monday/disk.raw`),
      );
      expect(values).toEqual([1, 11, 21, 31, 41, 51]);
      expect(fs.readdirSync(mountpoint)).toHaveLength(files.length);
    }));

  test('have permissions of their own', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      const [secret, open] = [makeImage(`${folder}/secret.qcow2`, 1), makeImage(`${folder}/open.qcow2`, 11)];
      fs.chmodSync(secret, 0o600);
      mount('-o', 'allow_other', secret, open);
      const asOther = (...command: string[]) =>
        tryCommand('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', ...command]).status;
      expect(asOther('head', '-c1', `${mountpoint}/open/current/disk.raw`)).toBe(0);
      expect(asOther('ls', `${mountpoint}/open`)).toBe(0);
      expect(asOther('head', '-c1', `${mountpoint}/secret/current/disk.raw`)).not.toBe(0);
      expect(asOther('ls', `${mountpoint}/secret`)).not.toBe(0);
      // The names of images are for those who may read all of them.
      expect(asOther('ls', mountpoint)).not.toBe(0);
    }));

  test('go stale each by itself', () =>
    withPlace(async ({ folder, mountpoint, mount }) => {
      const [one, other] = [makeImage(`${folder}/one.qcow2`, 1), makeImage(`${folder}/other.qcow2`, 11)];
      mount('--direct-io', one, other);
      const disk = (name: string) => `${mountpoint}/${name}/current/disk.raw`;
      const [oldOne, oldOther] = [fs.openSync(disk('one'), 'r'), fs.openSync(disk('other'), 'r')];
      try {
        runQemuIo(one, ['write -q -P 99 0 100k']);
        // ESTALE, for which Node.js has no name.
        expect(() => byteOf(oldOne)).toThrow('system error -116');
        expect(byteOf(oldOther)).toBe(12);
        await waitUntil(() => isReadable(disk('one')));
        expect(firstByte(disk('one'))).toBe(99);
        expect(() => byteOf(oldOne)).toThrow('system error -116');
        expect(byteOf(oldOther)).toBe(12);
      } finally {
        for (const fd of [oldOne, oldOther]) fs.closeSync(fd);
      }
    }));

  test('have backing chains of their own', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      for (const name of ['a', 'b']) {
        makeImage(`${folder}/${name}/base.qcow2`, name.charCodeAt(0));
        const top = ['-b', 'base.qcow2', '-F', 'qcow2', `${folder}/${name}/top-${name}.qcow2`];
        runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', ...top]);
      }
      mount(`${folder}/a/top-a.qcow2`, `${folder}/b/top-b.qcow2`);
      expect(firstByte(`${mountpoint}/top-a/current/disk.raw`)).toBe('b'.charCodeAt(0));
      expect(firstByte(`${mountpoint}/top-b/current/disk.raw`)).toBe('c'.charCodeAt(0));
    }));
});

describe('several encrypted images', () => {
  const makeEncrypted = (folder: string, name: string) => {
    const image = `${folder}/${name}.qcow2`;
    createEncryptedImage({ path: image, passphrase: name, options: LUKS, sizeBytes: SIZE_BYTES });
    return image;
  };

  test('have a passphrase each, from files in their order', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      const images = [makeEncrypted(folder, 'one'), makeImage(`${folder}/open.qcow2`, 1), makeEncrypted(folder, 'two')];
      const files = ['one', 'two'].map((name) => writePassphrase(folder, name, `${name}.txt`));
      expect(mount(...files.map((file) => `--passphrase-file=${file}`), ...images).stderr).toBe('');
      for (const name of ['one', 'two']) expect(firstByte(`${mountpoint}/${name}/current/disk.raw`)).toBe(0);
      expect(firstByte(`${mountpoint}/open/current/disk.raw`)).toBe(2);
    }));

  test('are named when their passphrases are asked for', () =>
    withPlace(async ({ folder, mountpoint }) => {
      const images = [makeEncrypted(folder, 'one'), makeEncrypted(folder, 'two')];
      const { output, status } = await typeOnTerminal(
        `${QCOW2FS} mount ${images.join(' ')} ${mountpoint}`,
        'one\r',
        'two\r',
      );
      expect(output).toBe(images.map((image) => `passphrase of ${image}: \r\n`).join(''));
      expect(status).toBe(0);
    }));
});

describe('none of several images is mounted', () => {
  test('if one of them cannot be, and it is named', () =>
    withPlace(({ folder, mountpoint, mount }) => {
      const good = makeImage(`${folder}/good.qcow2`, 1);
      fs.writeFileSync(`${folder}/bad.qcow2`, 'no image');
      expect(mount(good, `${folder}/gone.qcow2`)).toMatchObject({
        status: 1,
        stderr: `qcow2fs: ${folder}/gone.qcow2: no such file\n`,
      });
      expect(mount(`${folder}/bad.qcow2`, good).stderr).toMatch(`qcow2fs: ${folder}/bad.qcow2 is not a qcow2 image`);
      expect(findMount(mountpoint)).toBeUndefined();
    }));

  test.each(['--backing', '--data-file'])('with %s, which names a file of one of them', (option) =>
    withPlace(({ folder, mount }) => {
      const images = ['a', 'b'].map((name) => makeImage(`${folder}/${name}.qcow2`, 1));
      expect(mount(option, `${folder}/x`, ...images)).toMatchObject({
        status: 2,
        stderr: `qcow2fs: ${option} names a file of one image, but several are given: mount that one by itself\n`,
      });
    }),
  );
});

interface Place {
  readonly folder: string;
  readonly mountpoint: string;
  /** `qcow2fs mount` with these arguments, on the mountpoint. */
  readonly mount: (...args: readonly string[]) => CommandResult;
}

async function withPlace(body: (place: Place) => void | Promise<void>): Promise<void> {
  await withTemporaryFolder(async (folder) => {
    const mountpoint = `${folder}/mnt`;
    fs.mkdirSync(mountpoint);
    try {
      await body({ folder, mountpoint, mount: (...args) => tryCommand(QCOW2FS, ['mount', ...args, mountpoint]) });
    } finally {
      if (findMount(mountpoint) !== undefined) runCommand(QCOW2FS, ['umount', mountpoint]);
    }
  });
}
