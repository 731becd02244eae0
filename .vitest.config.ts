import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * These begin first, so that no worker is left alone with one of them at the end. Without results of an earlier run, vitest
 * takes long files for slow ones. What needs both processors does not begin beside what measures how long others take.
 */
const SLOW = ['endurance/', 'oracle/reader-backing', 'oracle/check.test', 'fuzz/', 'oracle/', 'race/'];

class SlowFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const rank = ({ moduleId }: TestSpecification) => {
      const index = SLOW.findIndex((place) => moduleId.includes(`/test/${place}`));
      return index === -1 ? SLOW.length : index;
    };
    return sorted.sort((one, other) => rank(one) - rank(other));
  }
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    globalSetup: ['test/support/global-set-up.ts'],
    reporters: ['default', './test/support/count-reporter.ts'],
    sequence: { sequencer: SlowFirst },
    // Two workers: the mounted tests start daemons and QEMU tools of their own.
    maxWorkers: 2,
  },
});
