import { expect, test } from 'vitest';
import { OpenFiles } from '../../src/fuse-native/open-files.ts';
import { catchError } from '../support/catch-error.ts';

test('each open file has a handle above 0, also if it is the same node', () => {
  const files = new OpenFiles();
  const handles = [7, 7, 2 ** 45].map((node) => files.add(node));
  expect(new Set(handles).size).toBe(3);
  expect(Math.min(...handles)).toBeGreaterThan(0);
  expect(handles.map((handle) => files.node(handle))).toEqual([7, 7, 2 ** 45]);
});

test('a handle that was released is nobody’s', () => {
  const files = new OpenFiles();
  const handle = files.add(7);
  files.remove(handle);
  expect(catchError(() => files.node(handle))).toMatchObject({ code: 'INTERNAL' });
  expect(catchError(() => files.node(0))).toMatchObject({ code: 'INTERNAL' });
});

test('handles begin again at 1 behind the last, and leave out those in use', () => {
  const files = new OpenFiles(4);
  const kept = files.add(100);
  for (let node = 0; node < 20; node++) {
    const handle = files.add(node);
    expect(handle).not.toBe(kept);
    expect(handle).toBeLessThanOrEqual(4);
    files.remove(handle);
  }
  expect(files.node(kept)).toBe(100);
});

test('no more files are open than there are handles', () => {
  const files = new OpenFiles(2);
  files.add(1);
  files.add(2);
  expect(catchError(() => files.add(3))).toMatchObject({ code: 'INTERNAL' });
});
