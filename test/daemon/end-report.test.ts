/** What a process leaves to say for whoever waits for its end. */

import fs from 'node:fs';
import { expect, test } from 'vitest';
import { createEndReport, openEndReport, readEndReport, writeEndReport } from '../../src/daemon/end-report.ts';
import { catchError } from '../support/catch-error.ts';
import { withTemporaryFolder } from '../support/temporary-folder.ts';

test.each([
  ['no problem', []],
  ['a problem', ['the disk of /a/b "c"\n is gone']],
  ['a long problem', ['é'.repeat(10_000), 'short']],
  ['many problems', Array.from({ length: 100 }, (_, index) => `${index} ${'x'.repeat(1000)}`)],
])('%s is told by a file without a name, opened by its descriptor', (_, problems) =>
  withTemporaryFolder((folder) => {
    const own = createEndReport([folder]);
    const theirs = openEndReport(process.pid) ?? expect.unreachable('there is no report');
    try {
      expect(fs.readdirSync(folder)).toEqual([]);
      expect(readEndReport(theirs)).toBeUndefined();
      writeEndReport(own, { problems });
      const told = readEndReport(theirs)?.problems ?? [];
      expect(told.length).toBe(problems.length);
      for (const [index, problem] of told.entries()) expect(problems[index]?.startsWith(problem)).toBe(true);
      if (JSON.stringify(problems).length < 4000) expect(told).toEqual(problems);
    } finally {
      for (const fd of [own, theirs]) fs.closeSync(fd);
    }
  }),
);

test('a process without one has none, and neither has one that is gone', () => {
  expect(openEndReport(process.pid)).toBeUndefined();
  expect(openEndReport(2 ** 22 + 1)).toBeUndefined();
});

test('the first folder that takes it is taken; without one, the first is named', () =>
  withTemporaryFolder((folder) => {
    fs.closeSync(createEndReport(['/proc/self', folder]));
    const error = catchError(() => createEndReport(['/proc/self', `${folder}/missing`]));
    expect(error).toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/ in \/proc\/self or \S+missing: .*TMPDIR/),
    });
    expect(fs.readdirSync(folder)).toEqual([]);
  }));
