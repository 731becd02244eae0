import path from 'node:path';
import { expect, it } from 'vitest';
import { runCommand } from '../support/run-command.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';
// @ts-expect-error: shared with a program that runs as it is.
import { Witness } from './witness.mjs';

it('QEMU confirms its own bytes, and no others', () =>
  withTemporaryFolder((folder) => {
    const image = path.join(folder, 'image.qcow2');
    runCommand('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
    runCommand('qemu-io', ['-f', 'qcow2', '-c', 'write -q -P 7 64k 64k', image]);
    const witness = new Witness();
    witness.note(65536 - 512, Buffer.concat([Buffer.alloc(512), Buffer.alloc(512, 7)]));
    witness.note(2 ** 21, Buffer.alloc(512));
    expect(witness.ask(image, false)).toBe(1);
    witness.note(0, Buffer.alloc(512, 1));
    expect(() => witness.ask(image, false)).toThrow('other bytes than QEMU reads at 0');
  }));
