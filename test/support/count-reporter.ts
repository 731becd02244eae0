/** Prints how many tests ran, as the very last line of the run: `N passed, N failed`, and skipped ones if there are any. */

import fs from 'node:fs';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';

// biome-ignore lint/style/noDefaultExport: vitest takes a reporter that is named by its path from the default export
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const line = countLine(modules, unhandledErrors.length);
    // Other reporters and the global teardown print after this event; nothing prints after the end of the process.
    process.once('exit', () => fs.writeSync(1, `${line}\n`));
  }
}

/** A file that cannot be loaded and an error outside of all tests count as one failed test each. */
function countLine(modules: readonly TestModule[], unhandledErrorCount: number): string {
  const counts = { passed: 0, failed: unhandledErrorCount, skipped: 0, pending: 0 };
  for (const module of modules) {
    const failedBefore = counts.failed;
    for (const test of module.children.allTests()) counts[test.result().state]++;
    if (module.state() === 'failed' && counts.failed === failedBefore) counts.failed++;
  }
  const skipped = counts.skipped + counts.pending;
  return `${counts.passed} passed, ${counts.failed} failed${skipped === 0 ? '' : `, ${skipped} skipped`}`;
}
