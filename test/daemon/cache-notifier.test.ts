/** The thread that tells the kernel what to forget, when it cannot be started, and at the end. */

import fs from 'node:fs';
import { afterEach, expect, test, vi } from 'vitest';
import { createKernelSession } from '../../src/daemon/kernel-session.ts';
import type { ServedImages } from '../../src/daemon/served-images.ts';
import { ROOT_NODE_ID } from '../../src/filesystem/file-system.ts';
import { collectWarnings } from '../fuse/wire-bytes.ts';

/** What a thread of the test does. */
const thread = vi.hoisted(() => ({ start: () => {}, terminate: async () => {} }));

vi.mock('node:worker_threads', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:worker_threads')>();
  const Worker = class {
    constructor() {
      thread.start();
    }
    on() {}
    unref() {}
    postMessage() {}
    terminate() {
      return thread.terminate();
    }
  };
  return { ...original, Worker };
});

afterEach(() => {
  vi.restoreAllMocks();
});

const SERVED: ServedImages = {
  images: [],
  scratch: undefined,
  isHeavy: false,
  readAheadBytes: 0,
  root: { permissions: 0o555, uid: 0, gid: 0 },
};

async function mountSession(fd: number) {
  const mount = { device: '0:1', mountpoint: '/mnt', fsType: 'fuse.qcow2fs' };
  const session = createKernelSession(
    { mount: async () => ({ fd, mount }) as never },
    {
      entry: new URL('file:///worker.js'),
      served: SERVED,
      options: { directIo: false, isWritable: false },
    },
  );
  await session.mount('/mnt', { allowOther: false, isWritable: false, extra: [], source: 'disk.qcow2' });
  return session;
}

test('what was served before can be closed also if the kernel cannot be told', async () => {
  const warnings = collectWarnings();
  vi.spyOn(thread, 'start').mockImplementation(() => {
    throw new Error('Worker initialization failure: EAGAIN');
  });
  const session = await mountSession(-1);
  const retire = vi.fn();
  await session.replace(SERVED, [{ kind: 'node', node: ROOT_NODE_ID }]).then(retire);
  expect(retire).toHaveBeenCalledOnce();
  expect(warnings.join()).toContain('the kernel cannot be told about changes: Worker initialization failure: EAGAIN');
});

test('the device is closed when the thread cannot write to its number any more', async () => {
  const fd = fs.openSync('/dev/null', 'r');
  let end = () => {};
  vi.spyOn(thread, 'terminate').mockImplementation(
    () =>
      new Promise((resolve) => {
        end = resolve;
      }),
  );
  const session = await mountSession(fd);
  await session.replace(SERVED, [{ kind: 'node', node: ROOT_NODE_ID }]);
  const closing = session.close();
  await new Promise(setImmediate);
  expect(fs.fstatSync(fd).isCharacterDevice()).toBe(true);
  end();
  await closing;
  expect(() => fs.fstatSync(fd)).toThrow('EBADF');
});
