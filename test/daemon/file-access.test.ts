/** Who may read files of the host by their paths, while others change where those lead. */

import fs from 'node:fs';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { accessesOf, findAccesses } from '../../src/daemon/file-access.ts';
import { type OpenFile, openFile } from '../../src/storage/file-storage.ts';
import { commonOwnership } from '../../src/tree/ownership.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

interface Opened {
  readonly folder: string;
  readonly file: OpenFile;
}

/** `FOLDER/link/disk`, that is `FOLDER/open/disk`, of mode 644; `FOLDER/closed` lets nobody pass but its owner. */
function withFile(body: (opened: Opened) => void | Promise<void>): Promise<void> {
  return withTemporaryFolder(async (given) => {
    const folder = fs.realpathSync(given);
    fs.chmodSync(folder, 0o755);
    for (const [name, mode] of [
      ['open', 0o755],
      ['closed', 0o700],
    ] as const) {
      fs.mkdirSync(`${folder}/${name}`);
      fs.chmodSync(`${folder}/${name}`, mode);
      fs.writeFileSync(`${folder}/${name}/disk`, name);
      fs.chmodSync(`${folder}/${name}/disk`, 0o644);
    }
    fs.symlinkSync('open', `${folder}/link`);
    const file = openFile(`${folder}/link/disk`);
    try {
      await body({ folder, file });
    } finally {
      fs.closeSync(file.fd);
    }
  });
}

/** Both must say the same. */
async function permissionsOf(file: OpenFile, ofNow = true): Promise<number> {
  const before = countDescriptors();
  const { permissions } = commonOwnership(accessesOf([file]));
  if (ofNow) expect(commonOwnership(await findAccesses([file])).permissions).toBe(permissions);
  expect(countDescriptors()).toBe(before);
  return permissions;
}

function relink(folder: string, target: string): void {
  fs.rmSync(`${folder}/link`);
  fs.symlinkSync(target, `${folder}/link`);
}

afterEach(() => {
  vi.unstubAllEnvs();
  vi.resetModules();
});

test('the modes of the file and of the folders on the way to it count', () =>
  withFile(async ({ folder, file }) => {
    expect(await permissionsOf(file)).toBe(0o444);
    fs.chmodSync(`${folder}/open`, 0o710);
    expect(await permissionsOf(file)).toBe(0o440);
    fs.chmodSync(`${folder}/open`, 0o700);
    expect(await permissionsOf(file)).toBe(0o400);
    fs.chmodSync(`${folder}/open`, 0o755);
    runCommand('setfacl', ['-m', 'u:daemon:-', `${folder}/open`]);
    expect(await permissionsOf(file)).toBe(0o400);
    runCommand('setfacl', ['-b', `${folder}/open`]);
    runCommand('setfacl', ['-m', 'u:daemon:-', `${folder}/open/disk`]);
    expect(await permissionsOf(file)).toBe(0o400);
  }));

test('a file and those above it are asked for once each, in a fixed order', () =>
  withFile(({ folder, file }) => {
    const [first, second, ...folders] = accessesOf([file, file]);
    expect(first).toMatchObject({ uid: process.getuid?.(), mode: file.mode });
    expect(second).toEqual(first);
    expect(folders).toHaveLength(`${folder}/open`.split('/').length);
  }));

describe('only the owner may read', () => {
  test('a closed file whose path leads to an open one by now', () =>
    withFile(async ({ folder }) => {
      relink(folder, 'closed');
      const file = openFile(`${folder}/link/disk`);
      try {
        expect(await permissionsOf(file)).toBe(0o400);
        relink(folder, 'open');
        expect(await permissionsOf(file)).toBe(0o400);
      } finally {
        fs.closeSync(file.fd);
      }
    }));

  test('a file that is not at its path any more', () =>
    withFile(async ({ folder, file }) => {
      fs.renameSync(`${folder}/open/disk`, `${folder}/open/moved`);
      expect(await permissionsOf(file)).toBe(0o400);
      fs.renameSync(`${folder}/open/moved`, `${folder}/open/disk`);
      expect(await permissionsOf(file)).toBe(0o444);
    }));

  test('a file behind our own mount, which is not touched', () =>
    withFile(({ folder, file }) => {
      expect(commonOwnership(accessesOf([file], `${folder}/closed`)).permissions).toBe(0o444);
      expect(commonOwnership(accessesOf([file], `${folder}/open`)).permissions).toBe(0o400);
    }));

  test('a file in a closed folder, while another one takes the place of that', () =>
    withFile(async ({ folder }) => {
      const file = openFile(`${folder}/closed/disk`);
      try {
        // What asks for access control lists comes last: an `ls` that first moves the folders about.
        fs.mkdirSync(`${folder}/bin`);
        const swap = `mv ${folder}/closed ${folder}/away; mv ${folder}/open ${folder}/closed`;
        fs.writeFileSync(`${folder}/bin/ls`, `#!/bin/sh\nPATH=${process.env.PATH}\n${swap}\nexec ls "$@"\n`, {
          mode: 0o755,
        });
        vi.stubEnv('PATH', `${folder}/bin:${process.env.PATH}`);
        vi.resetModules();
        const again = await import('../../src/daemon/file-access.ts');
        expect(commonOwnership(again.accessesOf([file])).permissions).toBe(0o400);
        expect(fs.existsSync(`${folder}/away`)).toBe(true);
      } finally {
        fs.closeSync(file.fd);
      }
    }));
});
