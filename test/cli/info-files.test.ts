/** The files of an image that cannot be described. */

import { expect, test, vi } from 'vitest';
import { infoCommand } from '../../src/cli/describe-commands.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { countDescriptors } from '../support/descriptors.ts';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

vi.mock('../../src/open-image/describe-image.ts', () => ({
  describeInfo: () => {
    throw new RangeError('Invalid string length');
  },
}));

test('an image that cannot be described is closed, and so is its backing file', () =>
  withTemporaryFolder(async (folder) => {
    const [top, base] = [`${folder}/top.qcow2`, `${folder}/base.qcow2`];
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', base, '1M']);
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top]);
    const before = countDescriptors();
    await expect(infoCommand(top, {}, NO_CHAIN_OPTIONS)).rejects.toThrow('Invalid string length');
    expect(countDescriptors()).toBe(before);
  }));
