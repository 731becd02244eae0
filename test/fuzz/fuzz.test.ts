/** A slice of the fuzzer: always the same mutations. `npm run fuzz -- --seconds 1200` runs others. */

import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { tryCommand } from '../support/run-command.ts';

const FUZZER = path.resolve(import.meta.dirname, 'fuzz.mjs');

/** Two or three minutes on an idle machine with two processors, and longer beside other tests. */
const MAX_RUN_MS = 900_000;

test(
  '20,000 damaged images end in bytes or errors',
  () => {
    const { status, stdout, stderr } = tryCommand('node', [FUZZER, '--cases', '20000', '--seed', '1'], {
      env: { ...process.env, TMPDIR: os.tmpdir() },
      timeoutMs: MAX_RUN_MS,
    });
    expect({ status, output: stdout + stderr }).toEqual({
      status: 0,
      output: expect.stringMatching(/^fuzz: 20000 cases, seed 1, .* 0 findings;/),
    });
  },
  MAX_RUN_MS + 60_000,
);
