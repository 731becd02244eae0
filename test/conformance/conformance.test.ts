/** One suite for every way to look at an image: what is true of one has to be true of all. */

import fs from 'node:fs';
import path from 'node:path';
import tmp from 'tmp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { mountsBelow } from '../support/leftovers.ts';
import { tryCommand } from '../support/run-command.ts';
import { installForUsers } from '../support/user-place.ts';
import type { CaseContext } from './case-context.ts';
import { CASES } from './cases.ts';
import { DIFFERENCES } from './differences.ts';
import { makeCrowdedImage, makeCutImage, makeMainImage, type StateTruth, truthOf } from './images.ts';
import { type OpenFiles, TRANSPORTS, type Transport } from './transports.ts';

const folder = tmp.dirSync({ prefix: 'qcow2fs-conformance-', unsafeCleanup: true, mode: 0o755 });
const workshop = { folder: folder.name, launcher: '' };
const images = { main: '', cut: '', crowded: '' };
let states: readonly StateTruth[];

beforeAll(() => {
  workshop.launcher = installForUsers(path.join(folder.name, 'package'));
  images.main = makeMainImage(folder.name);
  images.cut = makeCutImage(folder.name);
  images.crowded = makeCrowdedImage(folder.name);
  states = truthOf(images.main, folder.name);
});

afterAll(() => {
  for (const mountpoint of mountsBelow(folder.name)) tryCommand('umount', ['-l', '-c', '--', mountpoint]);
  folder.removeCallback();
});

/** A copy that belongs to whoever mounts it. */
function copyFor(transport: Transport, image: string): string {
  const copy = path.join(fs.mkdtempSync(path.join(folder.name, 'image-')), path.basename(image));
  fs.chmodSync(path.dirname(copy), 0o755);
  fs.copyFileSync(image, copy);
  fs.chmodSync(copy, 0o644);
  const { uid, gid } = transport.owner();
  fs.chownSync(copy, uid, gid);
  return copy;
}

describe.each(TRANSPORTS)('$title', (transport) => {
  let main: OpenFiles & { image: string };

  beforeAll(async () => {
    const image = copyFor(transport, images.main);
    main = { image, ...(await transport.open(workshop, image)) };
  });
  afterAll(() => main?.close());

  const context = (): CaseContext => ({
    files: main.files,
    states,
    image: main.image,
    async showing(name, body) {
      const image = copyFor(transport, name === 'copy' ? images.main : images[name]);
      const { files, close } = await transport.open(workshop, image);
      try {
        await body(files, image);
      } finally {
        await close();
      }
    },
  });

  for (const [name, run] of Object.entries(CASES)) {
    const difference = DIFFERENCES.find((one) => one.transport === transport.title && one.name === name);
    if (difference === undefined) test(name, () => run(context()));
    else test(name, ({ skip }) => skip(difference.reason));
  }
});

test('every difference is of a transport that exists', () => {
  const titles = TRANSPORTS.map(({ title }) => title);
  expect(DIFFERENCES.filter(({ transport }) => !titles.includes(transport))).toEqual([]);
});
