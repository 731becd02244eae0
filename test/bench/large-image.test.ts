/** The image with large tables and no data is one that QEMU takes, and says what it was made to say. */

import { expect, test } from 'vitest';
import { checkWithQemu } from '../oracle/qemu.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
// @ts-expect-error: the bench is plain JavaScript
import { writeLargeImage } from './large-image.mjs';

const TABLE_BYTES = 512 * 2 ** 20;
const TABLE_COUNT = 8;
const CHANGED_TABLES = 2;

test('a large image is consistent, and half of its changed tables is written each day', () =>
  withTemporaryFolder((folder) => {
    const image = `${folder}/large.qcow2`;
    const sizeBytes = TABLE_COUNT * TABLE_BYTES;
    writeLargeImage(image, { sizeBytes, snapshotCount: 3, changedTables: CHANGED_TABLES });
    const { status, counts } = checkWithQemu(image);
    expect([status, counts?.['allocated-clusters']]).toEqual([0, sizeBytes / 65536]);
    const { snapshots, current, problems } = JSON.parse(runCommand(QCOW2FS, ['list', '--json', image]));
    expect(problems).toEqual([]);
    const written = [...snapshots, current].map(({ writtenBytes }) => writtenBytes);
    const daily = (CHANGED_TABLES * TABLE_BYTES) / 2;
    expect(written).toEqual([sizeBytes, daily, daily, daily]);
  }));
