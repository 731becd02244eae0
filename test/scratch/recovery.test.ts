/** Journals are replayed on a scratch view: by the kernel, and by the tools that repair. */

import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { withScratch } from '../support/mounted-image.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { DIRTY_FILE_SYSTEMS, makeDirtyImage, whileMounted } from './dirty-image.ts';

test.each(DIRTY_FILE_SYSTEMS)('$type: all that was fsynced is back, as in a copy that the kernel recovered', (kind) =>
  withTemporaryFolder(async (folder) => {
    const { image, copy, fileCount } = makeDirtyImage(folder, kind);
    const [view, recovered] = ['view', 'recovered'].map((name) => path.join(folder, name)) as [string, string];
    fs.mkdirSync(view);
    fs.mkdirSync(recovered);
    await withScratch(image, 'night', (mountpoint) => {
      const volume = `${mountpoint}/volumes/disk.raw`;
      expect(JSON.parse(fs.readFileSync(`${mountpoint}/info.json`, 'utf8')).volumes).toMatchObject([
        { fileSystem: { type: kind.type } },
      ]);
      whileMounted(copy, recovered, kind.options, () =>
        whileMounted(volume, view, kind.options, () => {
          expect(fs.readdirSync(view).filter((name) => name.startsWith('file'))).toHaveLength(fileCount);
          expect(tryCommand('diff', ['-r', recovered, view])).toMatchObject({ status: 0, stdout: '' });
          fs.writeFileSync(`${view}/written`, 'here', { flush: true });
        }),
      );
      whileMounted(volume, view, kind.options, () => expect(fs.readFileSync(`${view}/written`, 'utf8')).toBe('here'));
      runCommand(kind.check[0], [...kind.check.slice(1), volume]);
    });
  }),
);

test('e2fsck replays the journal, and a second scratch view knows nothing of it', () =>
  withTemporaryFolder(async (folder) => {
    const [ext4] = DIRTY_FILE_SYSTEMS;
    const { image } = makeDirtyImage(folder, ext4);
    for (const attempt of ['first', 'second']) {
      await withScratch(image, 'night', (mountpoint) => {
        const { stderr, stdout } = tryCommand('e2fsck', ['-fy', `${mountpoint}/volumes/disk.raw`]);
        expect(`${attempt}: ${stdout}${stderr}`).toContain('recovering journal');
        expect(tryCommand('e2fsck', ['-fn', `${mountpoint}/disk.raw`])).toMatchObject({ status: 0 });
      });
    }
  }));

test('xfs_repair asks for the journal to be replayed, or throws it away, as on any disk', () =>
  withTemporaryFolder(async (folder) => {
    const [, xfs] = DIRTY_FILE_SYSTEMS;
    if (xfs === undefined) throw new Error('there is no xfs');
    const { image } = makeDirtyImage(folder, xfs);
    await withScratch(image, 'night', (mountpoint) => {
      const volume = `${mountpoint}/volumes/disk.raw`;
      expect(tryCommand('xfs_repair', [volume])).toMatchObject({ status: 2, stderr: expect.stringContaining('log') });
      runCommand('xfs_repair', ['-L', volume]);
      runCommand('xfs_repair', ['-n', volume]);
    });
  }));
