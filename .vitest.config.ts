import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    globalSetup: ['test/support/global-set-up.ts'],
    reporters: ['default', './test/support/count-reporter.ts'],
    // Two workers: the mounted tests start daemons and QEMU tools of their own.
    maxWorkers: 2,
  },
});
