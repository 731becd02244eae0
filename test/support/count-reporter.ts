/**
 * Prints how many tests ran, as the very last line of the run: `N passed, N failed`, and skipped ones if there are any. What a
 * test says when it skips itself comes before.
 */

import fs from 'node:fs';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';

// biome-ignore lint/style/noDefaultExport: vitest takes a reporter that is named by its path from the default export
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const counts = countTests(modules, unhandledErrors.length);
    const reasons = reasonsToSkip(modules);
    // Other reporters and the global teardown print after this event; nothing prints after the end of the process.
    process.once('exit', (code) => {
      // The run itself has failed: mounts were left behind, or nothing ran.
      if (code !== 0 && counts.failed === 0) counts.failed = 1;
      fs.writeSync(1, [...reasons, toLine(counts), ''].join('\n'));
    });
  }
}

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
  pending: number;
}

/** A file that cannot be loaded and an error outside of all tests count as one failed test each. */
function countTests(modules: readonly TestModule[], unhandledErrorCount: number): Counts {
  const counts = { passed: 0, failed: unhandledErrorCount, skipped: 0, pending: 0 };
  for (const module of modules) {
    const failedBefore = counts.failed;
    for (const test of module.children.allTests()) counts[test.result().state]++;
    if (module.state() === 'failed' && counts.failed === failedBefore) counts.failed++;
  }
  return counts;
}

function reasonsToSkip(modules: readonly TestModule[]): string[] {
  return modules
    .flatMap((module) => [...module.children.allTests('skipped')])
    .flatMap((test) => {
      const { note } = test.result() as { note?: string };
      return note === undefined ? [] : [`skipped: ${test.fullName}: ${note}`];
    });
}

function toLine({ failed, passed, pending, skipped }: Counts): string {
  const notRun = skipped + pending;
  return `${passed} passed, ${failed} failed${notRun === 0 ? '' : `, ${notRun} skipped`}`;
}
