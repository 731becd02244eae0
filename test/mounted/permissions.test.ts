/** Nobody changes anything through the mount, and nobody reads it who may not read the image. */

import fs from 'node:fs';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createImage, createSnapshot, runQemuIo } from '../oracle/qemu.ts';
import { sha256OfFile } from '../support/hash.ts';
import { withMount as withPrivateMount } from '../support/mounted-image.ts';
import { type CommandResult, runCommand, tryCommand } from '../support/run-command.ts';

/** User and group ids that own nothing here; no account is needed for them. */
const OTHER_USER = '--reuid=65534';
const OTHER_GROUP = '--regid=65534';
const IMAGE_GROUP_ID = 54_321;

const folder = tmp.dirSync({ prefix: 'qcow2fs-permissions-', unsafeCleanup: true });
const image = `${folder.name}/disk.qcow2`;

beforeAll(() => {
  // What lies above the image must not be what keeps the other user out.
  fs.chmodSync(folder.name, 0o755);
  createImage(image, { sizeBytes: 1024 * 1024 });
  runQemuIo(image, ['write -q -P 1 0 100k']);
  createSnapshot(image, 'monday');
});

afterAll(() => folder.removeCallback());

function asOther(identity: readonly string[], command: readonly string[]): CommandResult {
  return tryCommand('setpriv', [...identity, '--clear-groups', ...command]);
}

/** With allow_other, the modes decide. */
const withMount = (imagePath: string, body: (mountpoint: string) => void) =>
  withPrivateMount(imagePath, body, { options: ['-o', 'allow_other'] });

/** The name of the errno that `body` fails with, or undefined when it does not fail. */
function errnoOf(body: () => void): string | undefined {
  try {
    body();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

describe('writing', () => {
  const attempts: readonly (readonly [string, (mountpoint: string) => void])[] = [
    ['open a disk for writing', (mountpoint) => fs.openSync(`${mountpoint}/current/disk.raw`, 'r+')],
    ['truncate a disk', (mountpoint) => fs.truncateSync(`${mountpoint}/snapshots/monday/disk.raw`, 0)],
    ['create a file', (mountpoint) => fs.writeFileSync(`${mountpoint}/new`, 'x')],
    ['create a directory', (mountpoint) => fs.mkdirSync(`${mountpoint}/snapshots/tuesday`)],
    ['create a symlink', (mountpoint) => fs.symlinkSync('target', `${mountpoint}/by-id/9`)],
    ['create a hard link', (mountpoint) => fs.linkSync(`${mountpoint}/image.json`, `${mountpoint}/link`)],
    ['remove a file', (mountpoint) => fs.unlinkSync(`${mountpoint}/current/disk.raw`)],
    ['remove a directory', (mountpoint) => fs.rmdirSync(`${mountpoint}/snapshots/monday`)],
    ['rename', (mountpoint) => fs.renameSync(`${mountpoint}/image.json`, `${mountpoint}/renamed.json`)],
    ['change the mode', (mountpoint) => fs.chmodSync(`${mountpoint}/current/disk.raw`, 0o666)],
    ['change the owner', (mountpoint) => fs.chownSync(`${mountpoint}/current/disk.raw`, 1, 1)],
    ['change the times', (mountpoint) => fs.utimesSync(`${mountpoint}/current/disk.raw`, 1, 1)],
  ];

  it('fails with EROFS, in whatever way', () =>
    withMount(image, (mountpoint) => {
      const outcomes = attempts.map(([title, attempt]) => [title, errnoOf(() => attempt(mountpoint))]);
      expect(outcomes).toEqual(attempts.map(([title]) => [title, 'EROFS']));
      const { status, stderr } = tryCommand('setfattr', ['-n', 'user.x', '-v', 'y', `${mountpoint}/current/disk.raw`]);
      expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining('Read-only file system') });
    }));
});

describe('another user', () => {
  it('without allow_other does not even get to the root of the mount', async () => {
    fs.chmodSync(image, 0o644);
    await withPrivateMount(image, (mountpoint) => {
      for (const command of [
        ['ls', mountpoint],
        ['stat', mountpoint],
        ['cat', `${mountpoint}/current/disk.raw`],
      ]) {
        const { status, stderr } = asOther([OTHER_USER, OTHER_GROUP], command);
        expect({ status, stderr }).toEqual({
          status: expect.any(Number),
          stderr: expect.stringContaining('Permission denied'),
        });
        expect(status).not.toBe(0);
      }
      expect(fs.readdirSync(mountpoint)).toContain('current');
    });
  });

  it('reads and lists nothing of an image that only its owner may read', async () => {
    fs.chmodSync(image, 0o600);
    await withMount(image, (mountpoint) => {
      for (const command of [
        ['cat', `${mountpoint}/current/disk.raw`],
        ['cat', `${mountpoint}/snapshots/monday/disk.raw`],
        ['cat', `${mountpoint}/image.json`],
        ['ls', mountpoint],
        ['ls', `${mountpoint}/snapshots`],
      ]) {
        const { status, stdout, stderr } = asOther([OTHER_USER, OTHER_GROUP], command);
        expect(status, command.join(' ')).not.toBe(0);
        expect(stderr, command.join(' ')).toContain('Permission denied');
        expect(stdout, command.join(' ')).toBe('');
      }
    });
  });

  it('reads an image that everybody may read', async () => {
    fs.chmodSync(image, 0o644);
    await withMount(image, (mountpoint) => {
      const disk = `${mountpoint}/snapshots/monday/disk.raw`;
      const { status, stdout } = asOther([OTHER_USER, OTHER_GROUP], ['sha256sum', disk]);
      expect({ status, stdout }).toEqual({ status: 0, stdout: `${sha256OfFile(disk)}  ${disk}\n` });
      expect(asOther([OTHER_USER, OTHER_GROUP], ['ls', mountpoint]).status).toBe(0);
    });
  });

  it('reads an image of its group, and no one outside of the group does', async () => {
    fs.chownSync(image, 0, IMAGE_GROUP_ID);
    fs.chmodSync(image, 0o640);
    await withMount(image, (mountpoint) => {
      const disk = `${mountpoint}/current/disk.raw`;
      expect(asOther([OTHER_USER, `--regid=${IMAGE_GROUP_ID}`], ['cat', disk]).status).toBe(0);
      expect(asOther([OTHER_USER, OTHER_GROUP], ['cat', disk]).stderr).toContain('Permission denied');
    });
  });

  it('finds modes without write permission', async () => {
    fs.chmodSync(image, 0o664);
    await withMount(image, (mountpoint) => {
      const modes = ['current/disk.raw', 'snapshots', 'image.json'].map(
        (name) => fs.statSync(`${mountpoint}/${name}`).mode & 0o7777,
      );
      expect(modes).toEqual([0o444, 0o555, 0o444]);
    });
  });
});

describe('uid, gid and umask', () => {
  const readAs = async (options: string, identity: readonly string[]) => {
    fs.chownSync(image, 0, 0);
    fs.chmodSync(image, 0o600);
    let status: number | null = null;
    await withPrivateMount(
      image,
      (mountpoint) => {
        status = asOther(identity, ['head', '-c1', `${mountpoint}/current/disk.raw`]).status;
      },
      { options: ['-o', options] },
    );
    return status;
  };

  it.each([
    ['uid= gives the image to a user', 'allow_other,uid=65534', [OTHER_USER, OTHER_GROUP], 0],
    ['and to nobody else', 'allow_other,uid=65533', [OTHER_USER, OTHER_GROUP], 1],
    [
      'gid= and umask= give it to a group',
      `allow_other,gid=${IMAGE_GROUP_ID},umask=027`,
      [OTHER_USER, `--regid=${IMAGE_GROUP_ID}`],
      0,
    ],
    ['and to no other group', `allow_other,gid=${IMAGE_GROUP_ID},umask=027`, [OTHER_USER, OTHER_GROUP], 1],
    ['umask= opens it to all', 'allow_other,umask=022', [OTHER_USER, OTHER_GROUP], 0],
    ['none of them lets anybody in without allow_other', 'uid=65534,umask=0', [OTHER_USER, OTHER_GROUP], 1],
  ])('%s', async (_, options, identity, status) => {
    expect(await readAs(options, identity)).toBe(status);
  });
});

describe('what the mode of the image does not tell', () => {
  const headOf = (mountpoint: string) =>
    asOther([OTHER_USER, `--regid=${IMAGE_GROUP_ID}`], ['head', '-c1', `${mountpoint}/current/disk.raw`]);

  it('an access control list lets nobody in by its mask', async () => {
    fs.chmodSync(image, 0o600);
    fs.chownSync(image, 0, IMAGE_GROUP_ID);
    try {
      runCommand('setfacl', ['--modify', 'user:2000:r', image]);
      expect(fs.statSync(image).mode & 0o777).toBe(0o640);
      await withMount(image, (mountpoint) => expect(headOf(mountpoint).status).not.toBe(0));
    } finally {
      runCommand('setfacl', ['--remove-all', image]);
    }
  });

  it('an access control list keeps out whom it names', async () => {
    fs.chmodSync(image, 0o644);
    try {
      runCommand('setfacl', ['--modify', 'user:65534:---', image]);
      await withMount(image, (mountpoint) => expect(headOf(mountpoint).status).not.toBe(0));
    } finally {
      runCommand('setfacl', ['--remove-all', image]);
    }
  });

  it('an access control list of a folder lets nobody pass by its mask', async () => {
    fs.chmodSync(image, 0o640);
    fs.chownSync(image, 0, IMAGE_GROUP_ID);
    fs.chownSync(folder.name, 0, IMAGE_GROUP_ID);
    fs.chmodSync(folder.name, 0o700);
    try {
      runCommand('setfacl', ['--modify', 'user:2000:x', folder.name]);
      expect(fs.statSync(folder.name).mode & 0o777).toBe(0o710);
      await withMount(image, (mountpoint) => expect(headOf(mountpoint).status).not.toBe(0));
    } finally {
      runCommand('setfacl', ['--remove-all', folder.name]);
      fs.chmodSync(folder.name, 0o755);
    }
  });

  it('a folder that others may not pass keeps them out of the mount', async () => {
    fs.chmodSync(image, 0o644);
    fs.chmodSync(folder.name, 0o700);
    try {
      await withMount(image, (mountpoint) => expect(headOf(mountpoint).status).not.toBe(0));
      fs.chmodSync(folder.name, 0o755);
      await withMount(image, (mountpoint) => expect(headOf(mountpoint).status).toBe(0));
    } finally {
      fs.chmodSync(folder.name, 0o755);
    }
  });
});
