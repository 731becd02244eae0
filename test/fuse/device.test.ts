import fs from 'node:fs';
import { expect, it } from 'vitest';
import { writeDevice } from '../../src/fuse/device.ts';

function writeTo(file: string): boolean {
  const fd = fs.openSync(file, 'r+');
  try {
    return writeDevice(fd, Buffer.alloc(16), 16);
  } finally {
    fs.closeSync(fd);
  }
}

it('a reply that nobody waits for any more is no failure', () => {
  // EPERM: this descriptor has no mount.
  expect(writeTo('/dev/fuse')).toBe(true);
  expect(writeTo('/dev/null')).toBe(true);
});

it('a reply that was not taken is one, whatever the reason', () => {
  // ENOSPC
  expect(writeTo('/dev/full')).toBe(false);
});
