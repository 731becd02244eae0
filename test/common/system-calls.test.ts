import fs from 'node:fs';
import path from 'node:path';
import { expect, test, vi } from 'vitest';
import { DirectCalls } from '../../src/common/direct-calls.ts';
import { allowDirectCalls, hasStamps, readFile, writeFile } from '../../src/common/system-calls.ts';
import { allowedCpus } from '../support/allowed-cpus.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

/** More calls than it takes until the C library is called directly. */
const MANY_CALLS = 2_500;

function load(): DirectCalls {
  return DirectCalls.load() ?? expect.unreachable('koffi is not installed');
}

function withFile(bytes: Buffer, use: (fd: number, file: string) => void): Promise<void> {
  return withTemporaryFolder((folder) => {
    const file = path.join(folder, 'file');
    fs.writeFileSync(file, bytes);
    const fd = fs.openSync(file, 'r+');
    try {
      use(fd, file);
    } finally {
      fs.closeSync(fd);
    }
  });
}

function stampsOf(fd: number) {
  const { size, mtimeMs, ctimeMs } = fs.fstatSync(fd);
  return { sizeBytes: size, mtimeMs, ctimeMs };
}

test('direct calls read, write and fail', () => {
  const calls = load();
  return withFile(Buffer.from('0123456789'), (fd, file) => {
    const target = Buffer.alloc(12, '.');
    expect(calls.read(fd, target, 1, 4, 3)).toBe(4);
    expect(target.toString('latin1')).toBe('.3456.......');
    expect(calls.read(fd, target, 8, 4, 8)).toBe(2);
    expect(calls.read(fd, target, 0, 4, 10)).toBe(0);
    expect(calls.read(fd, target, 0, 2, null)).toBe(2);
    expect(target.toString('latin1')).toBe('01456...89..');
    expect(calls.write(fd, Buffer.from('abc').subarray(1), 2)).toBe(2);
    expect(fs.readFileSync(file, 'latin1')).toBe('01bc456789');
    expect(calls.read(-1, target, 0, 1, 0)).toBe(-1);
    expect(() => calls.write(-1, target, 1)).toThrow(expect.objectContaining({ code: 'EBADF', syscall: 'write' }));
  });
});

test('memory that begins in the middle of a page, of a buffer and of shared memory is found', () => {
  const calls = load();
  return withFile(Buffer.from('0123456789'), (fd) => {
    const resizable = new ArrayBuffer(8192, { maxByteLength: 8192 });
    for (const memory of [new ArrayBuffer(5000), resizable, new SharedArrayBuffer(5000)]) {
      const target = Buffer.from(memory, 4080, 20);
      expect(calls.read(fd, target, 2, 10, 0)).toBe(10);
      expect(Buffer.from(memory, 4082, 10).toString('latin1')).toBe('0123456789');
    }
  });
});

test('positions above 4 GiB are exact', () => {
  const calls = load();
  return withFile(Buffer.alloc(0), (fd) => {
    const position = 5 * 2 ** 40 + 1;
    fs.writeSync(fd, Buffer.from('end'), 0, 3, position);
    const target = Buffer.alloc(4);
    expect(calls.read(fd, target, 0, 4, position)).toBe(3);
    expect(target.toString('latin1')).toBe('end\0');
    expect(calls.hasStamps(fd, stampsOf(fd))).toBe(true);
  });
});

test('direct calls see the stamps that Node sees', () => {
  const calls = load();
  return withFile(Buffer.from('x'), (fd, file) => {
    for (const seconds of [0, 0.001, 1_700_000_000.123456, 2 ** 32 + 0.999999, -1.25, -86_400.5]) {
      fs.utimesSync(file, seconds, seconds);
      const stamps = stampsOf(fd);
      expect(calls.hasStamps(fd, stamps), String(seconds)).toBe(true);
      expect(calls.hasStamps(fd, { ...stamps, mtimeMs: stamps.mtimeMs + 0.25 })).toBe(false);
      expect(calls.hasStamps(fd, { ...stamps, ctimeMs: stamps.ctimeMs - 1 })).toBe(false);
      expect(calls.hasStamps(fd, { ...stamps, sizeBytes: 2 })).toBe(false);
    }
    expect(calls.hasStamps(-1, stampsOf(fd))).toBe(false);
  });
});

test('a thread is bound to CPUs', () => {
  const calls = load();
  const usual = allowedCpus('thread-self');
  const last = usual.at(-1) ?? 0;
  try {
    expect(calls.setCpus([last])).toBe(true);
    expect(allowedCpus('thread-self')).toEqual([last]);
    // This machine has not so many.
    expect(calls.setCpus([8191])).toBe(false);
  } finally {
    expect(calls.setCpus(usual)).toBe(true);
  }
  expect(allowedCpus('thread-self')).toEqual(usual);
});

test('a thread that calls often gets the same bytes, stamps and errors as before', () => {
  return withFile(Buffer.from('0123456789'), (fd, file) => {
    const target = Buffer.alloc(10);
    const onLoaded = vi.fn();
    allowDirectCalls(onLoaded);
    for (let call = 0; call < MANY_CALLS; call++) {
      target.fill(0);
      expect(readFile(fd, target, 1, 9, 5)).toBe(5);
      expect(target.toString('latin1')).toBe('\x0056789\0\0\0\0');
    }
    expect(onLoaded.mock.calls).toEqual([[expect.any(DirectCalls)]]);
    const readSync = vi.spyOn(fs, 'readSync');
    expect(readFile(fd, target, 0, 10, 0)).toBe(10);
    expect(readSync).not.toHaveBeenCalled();
    readSync.mockRestore();
    for (let call = 0; call < 3; call++) {
      const stamps = stampsOf(fd);
      expect(hasStamps(fd, stamps)).toBe(true);
      expect(writeFile(fd, Buffer.from('abc'), 2)).toBe(2);
      fs.ftruncateSync(fd, 20 + call);
      expect(hasStamps(fd, stamps)).toBe(false);
    }
    expect(fs.readFileSync(file, 'latin1').slice(0, 10)).toBe('ababab6789');
    const closed = fs.openSync(file, 'r');
    fs.closeSync(closed);
    expect(() => readFile(closed, target, 0, 1, 0)).toThrow('EBADF');
    expect(() => writeFile(closed, target, 1)).toThrow('EBADF');
    expect(() => hasStamps(closed, stampsOf(fd))).toThrow('EBADF');
    const full = fs.openSync('/dev/full', 'w');
    const writeSync = vi.spyOn(fs, 'writeSync');
    expect(() => writeFile(full, target, 1)).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
    // What is refused is written once.
    expect(writeSync).not.toHaveBeenCalled();
    writeSync.mockRestore();
    fs.closeSync(full);
    // What does not fit into the buffer reaches no call.
    expect(() => readFile(fd, target, 5, 6, 0)).toThrow(RangeError);
    expect(() => writeFile(fd, target, 11)).toThrow(RangeError);
  });
});
