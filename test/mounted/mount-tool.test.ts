/** mount(8) with the type fuse.qcow2fs, as a user types it and as fstab(5) has it. */

import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { withInstalled } from '../support/installed.ts';

const AUTOMOUNTER = path.join(import.meta.dirname, 'automounter.pl');

describe('mount -t fuse.qcow2fs', () => {
  test('mounts; findmnt and df show the image and the type', () =>
    withInstalled(({ image, mountpoint, run }) => {
      const { status, stdout, stderr } = run(`
        mount -t fuse.qcow2fs ${image} ${mountpoint}
        findmnt --noheadings --raw --output SOURCE,FSTYPE ${mountpoint}
        df --output=source,fstype ${mountpoint} | tail -n 1 | tr -s ' '
        ls ${mountpoint}/snapshots
        qcow2fs umount ${mountpoint}
        findmnt ${mountpoint} || echo gone`);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toBe(`${image} fuse.qcow2fs\n${image} fuse.qcow2fs\nmonday\ngone\n`);
    }));

  test('takes options of mount(8), of FUSE, and of qcow2fs', () =>
    withInstalled(({ folder, image, mountpoint, run }) => {
      const log = `${folder}/log file, of a mount`;
      const { status, stdout, stderr } = run(`
        mount -t fuse.qcow2fs -o 'noexec,noatime,allow_other,max_read=8192,fsname=my\\,disk,uid=1234,umask=277' \\
          -o 'log-file=${log.replace(',', '\\,')}' ${image} ${mountpoint}
        findmnt --noheadings --raw --output SOURCE,OPTIONS ${mountpoint}
        stat --format '%A %u' ${mountpoint} ${mountpoint}/current/disk.raw
        umount ${mountpoint}`);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const [shown = '', ...stats] = stdout.trimEnd().split('\n');
      const [source, options = ''] = shown.split(' ');
      expect(source).toBe('my,disk');
      expect(options.split(',')).toEqual(
        expect.arrayContaining(['ro', 'nosuid', 'nodev', 'noexec', 'noatime', 'allow_other', 'max_read=8192']),
      );
      expect(stats).toEqual(['dr-x------ 1234', '-r-------- 1234']);
      expect(fs.existsSync(log)).toBe(true);
    }));

  test('without allow_other says nothing of it to the kernel', () =>
    withInstalled(({ image, mountpoint, run }) => {
      const { stdout } = run(`
        mount -t fuse.qcow2fs ${image} ${mountpoint}
        findmnt --noheadings --output OPTIONS ${mountpoint}`);
      expect(stdout).toContain('user_id=0');
      expect(stdout).not.toContain('allow_other');
    }));

  test('refuses an unknown option by its name, with exit 2', () =>
    withInstalled(({ image, mountpoint, run }) => {
      const { status, stderr } = run(`mount -t fuse.qcow2fs -o ro,frobnicate ${image} ${mountpoint}`);
      expect(stderr).toBe('qcow2fs: -o frobnicate: there is no such option\n');
      expect(status).toBe(2);
    }));

  test('fails with what is wrong with the image', () =>
    withInstalled(({ folder, mountpoint, run }) => {
      const { status, stderr } = run(`mount -t fuse.qcow2fs ${folder}/gone.qcow2 ${mountpoint}`);
      expect(stderr).toBe(`qcow2fs: ${folder}/gone.qcow2: no such file\n`);
      expect(status).toBe(1);
    }));
});

test('mount -t fuse takes the type in the source', () =>
  withInstalled(({ image, mountpoint, run }) => {
    const { status, stdout } = run(`
      mount -t fuse qcow2fs#${image} ${mountpoint}
      findmnt --noheadings --raw --output SOURCE,FSTYPE ${mountpoint}`);
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${image} fuse.qcow2fs\n` });
  }));

describe('a line in fstab', () => {
  test.each([
    ['as simple as can be', 'defaults'],
    ['with all that is for others', 'ro,noauto,users,nofail,_netdev,x-systemd.automount,x-gvfs-show,comment=x'],
  ])('mounts, %s', (_, options) =>
    withInstalled(({ folder, image, mountpoint, run }) => {
      fs.writeFileSync(`${folder}/fstab`, `${image} ${mountpoint} fuse.qcow2fs ${options} 0 0\n`);
      const { status, stdout, stderr } = run(`
        mount -T ${folder}/fstab ${mountpoint}
        findmnt --noheadings --raw --output SOURCE,FSTYPE,VFS-OPTIONS ${mountpoint}
        umount ${mountpoint}`);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toContain(`${image} fuse.qcow2fs ro,nosuid,nodev`);
    }),
  );

  test('mounts at boot with all others, a name with blanks too', () =>
    withInstalled(({ folder, image, mountpoint, run }) => {
      const other = `${folder}/an image.qcow2`;
      const otherMountpoint = `${folder}/mount point`;
      fs.copyFileSync(image, other);
      fs.mkdirSync(otherMountpoint);
      const escaped = (name: string) => name.replaceAll(' ', '\\040');
      fs.writeFileSync(
        `${folder}/fstab`,
        `${image} ${mountpoint} fuse.qcow2fs noauto 0 0\n${escaped(other)} ${escaped(otherMountpoint)} fuse.qcow2fs allow_other 0 0\n`,
      );
      const { status, stdout, stderr } = run(`
        mount --all -T ${folder}/fstab
        ls '${otherMountpoint}' | head -n 1
        umount '${otherMountpoint}'
        findmnt ${mountpoint} || echo not mounted`);
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'by-date\nnot mounted\n', stderr: '' });
    }));

  test('mounts when an automounter asks for it', () =>
    withInstalled(({ image, mountpoint, run }) => {
      const { status, stdout, stderr } = run(`
        perl ${AUTOMOUNTER} ${mountpoint} mount -t fuse.qcow2fs ${image} ${mountpoint}
        findmnt --noheadings --raw --types fuse.qcow2fs --output SOURCE ${mountpoint}
        qcow2fs umount ${mountpoint}
        umount ${mountpoint}`);
      expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: `monday\n${image}\n`, stderr: '' });
    }));
});
