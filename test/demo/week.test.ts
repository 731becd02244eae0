import { createHash } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Piece, packageFolder, readWeek, type Week, type WeekState, weekImagePath } from '../../src/demo/week.ts';
import { runCommand, tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

const MIB = 1024 * 1024;
const week = readWeek();

describe('week.qcow2', () => {
  test('is small and healthy', () => {
    const image = fs.readFileSync(weekImagePath);
    expect(image.length).toBeLessThan(MIB);
    expect({ sizeBytes: image.length, sha256: sha256(image) }).toEqual(week.image);
    runCommand('qemu-img', ['check', weekImagePath]);
  });

  test('has the snapshots of week.json', () => {
    expect(snapshotsOf(weekImagePath)).toEqual(
      week.states.filter(({ id }) => id !== null).map(({ id, name, date }) => ({ id, name, date })),
    );
  });

  test.each(week.states)('QEMU reads in the state $name what week.json says', (state) =>
    withState(state, (disk) => {
      expect(disk.length).toBe(state.virtualSizeBytes);
      expect(sha256(disk)).toBe(state.sha256);
      expect(sha256(cut(disk, state.database))).toBe(state.database.sha256);
    }),
  );

  test.each(week.states.filter(isBeforeFriday))('the database of $name is good', (state) =>
    withState(state, (disk, folder) => {
      expect(checkDatabase(cut(disk, state.database), folder)).toBe('ok\n');
    }),
  );

  test.each(week.states.filter((state) => !isBeforeFriday(state)))('the database of $name is damaged', (state) =>
    withState(state, (disk, folder) => {
      expect(checkDatabase(cut(disk, state.database), folder)).toContain('Page 3');
    }),
  );
});

describe('make-week.sh', () => {
  // Sums may be others with other versions of mke2fs and SQLite; the script itself checks what it makes.
  test('makes an image with the same states', () =>
    withTemporaryFolder((folder) => {
      runCommand(`${packageFolder}src/demo/make-week.sh`, [folder]);
      const image = path.join(folder, 'week.qcow2');
      const made = JSON.parse(fs.readFileSync(path.join(folder, 'week.json'), 'utf8')) as Week;
      expect(made.states.map(withoutContent)).toEqual(week.states.map(withoutContent));
      expect(snapshotsOf(image)).toEqual(snapshotsOf(weekImagePath));
      expect(sha256(fs.readFileSync(image))).toBe(made.image.sha256);
      runCommand('qemu-img', ['check', image]);
    }));
});

function isBeforeFriday({ date }: WeekState): boolean {
  return date !== null && date < '2026-11-20';
}

/** SQLite's opinion. Its exit status when it finds damage differs between versions. */
function checkDatabase(database: Buffer, folder: string): string {
  const file = path.join(folder, 'shop.db');
  fs.writeFileSync(file, database);
  return tryCommand('sqlite3', [file, 'PRAGMA integrity_check']).stdout;
}

function withoutContent({ name, id, date, virtualSizeBytes }: WeekState): object {
  return { name, id, date, virtualSizeBytes };
}

function snapshotsOf(image: string): object[] {
  const { snapshots } = JSON.parse(runCommand('qemu-img', ['info', '--output=json', image])) as {
    snapshots: { id: string; name: string; 'date-sec': number }[];
  };
  return snapshots.map(({ id, name, 'date-sec': seconds }) => ({
    id,
    name,
    date: new Date(seconds * 1000).toISOString().replace('.000Z', 'Z'),
  }));
}

/** The disk as QEMU reads it once the snapshot is applied: unlike `convert -l`, that takes the size of the snapshot. */
async function withState({ id }: WeekState, body: (disk: Buffer, folder: string) => void): Promise<void> {
  await withTemporaryFolder((folder) => {
    const copy = path.join(folder, 'copy.qcow2');
    const raw = path.join(folder, 'disk.raw');
    fs.copyFileSync(weekImagePath, copy);
    if (id !== null) runCommand('qemu-img', ['snapshot', '-a', id, copy]);
    runCommand('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', copy, raw]);
    body(fs.readFileSync(raw), folder);
  });
}

function cut(disk: Buffer, { offsetBytes, lengthBytes }: Piece): Buffer {
  return disk.subarray(offsetBytes, offsetBytes + lengthBytes);
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
