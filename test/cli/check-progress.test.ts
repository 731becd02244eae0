/** `check` on a terminal: how far it is, while that is worth a line. */

import { expect, test } from 'vitest';
import { createImage } from '../oracle/qemu.ts';
import { QCOW2FS } from '../support/mounted-image.ts';
import { tryCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
import { typeOnTerminal } from '../support/terminal.ts';

const ERASE_LINE = '\r\u001b[K';
const MIB = 2 ** 20;

/** That of a pseudo terminal is as a program wrote it but for the ends of the lines. */
function linesOf(output: string): string {
  return output.replaceAll('\r\n', '\n');
}

test('check shows a bar that grows, and removes it before it reports', () =>
  withTemporaryFolder(async (folder) => {
    const image = `${folder}/large.qcow2`;
    // 16 million clusters, all of them mapped: this takes seconds.
    createImage(image, { sizeBytes: MIB * MIB, options: ['preallocation=metadata'] });
    const { output, status } = await typeOnTerminal(`exec ${QCOW2FS} check ${image}`);
    expect(status, output).toBe(0);
    const percents = Array.from(output.matchAll(/\r\[[# ]{40}\] +(\d+)%/g), (match) => Number(match[1]));
    expect(percents.length).toBeGreaterThan(1);
    expect(percents).toEqual(percents.toSorted((one, other) => one - other));
    expect(percents[0]).toBeLessThan(percents.at(-1) ?? 0);
    const [progress = '', report, ...more] = output.split(ERASE_LINE);
    expect(more).toEqual([]);
    expect(progress).toMatch(/^(\r\[#* *\] +\d+%)+$/);
    expect(linesOf(report ?? '')).toMatch(/^image: .*\nverdict: +no problems found\n/);
  }));

test('what is checked in no time shows none', () =>
  withTemporaryFolder(async (folder) => {
    const image = `${folder}/small.qcow2`;
    createImage(image, { sizeBytes: MIB });
    const { output, status } = await typeOnTerminal(`exec ${QCOW2FS} check ${image}`);
    expect([linesOf(output), status]).toEqual([tryCommand(QCOW2FS, ['check', image]).stdout, 0]);
  }));
