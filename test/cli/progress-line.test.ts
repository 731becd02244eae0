/** The progress line, on what passes for a terminal. */

import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ProgressLine, progressBar } from '../../src/cli/progress-line.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

function terminal(isTTY: boolean) {
  const written: string[] = [];
  const stream = { isTTY, write: (text: string) => written.push(text) > 0 } as unknown as NodeJS.WriteStream;
  return { written, stream };
}

test('nothing is shown in the first second', () => {
  const { stream, written } = terminal(true);
  const line = new ProgressLine(stream);
  line.show(0.1);
  vi.advanceTimersByTime(900);
  line.show(0.5);
  line.clear();
  expect(written).toEqual([]);
});

test('then one line is rewritten, ten times a second at most, and removed in the end', () => {
  const { stream, written } = terminal(true);
  const line = new ProgressLine(stream);
  vi.advanceTimersByTime(1500);
  line.show(0.25);
  line.show(0.26);
  vi.advanceTimersByTime(200);
  line.show(0.5);
  line.clear();
  expect(written).toEqual([`\r${progressBar(0.25)}`, `\r${progressBar(0.5)}`, '\r\u001b[K']);
});

test('nothing is shown where there is no terminal', () => {
  const { stream, written } = terminal(false);
  const line = new ProgressLine(stream);
  vi.advanceTimersByTime(5000);
  line.show(0.5);
  line.clear();
  expect(written).toEqual([]);
});

test('the bar is as wide at the beginning as at the end', () => {
  expect(progressBar(0)).toBe(`[${' '.repeat(40)}]   0%`);
  expect(progressBar(0.5)).toBe(`[${'#'.repeat(20)}${' '.repeat(20)}]  50%`);
  expect(progressBar(1.01)).toBe(`[${'#'.repeat(40)}] 100%`);
});
