import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

const MODULE = new URL('../../dist/exec/run-command.js', import.meta.url).href;
/** MAX_ARG_STRLEN (include/uapi/linux/binfmts.h) where pages are the largest. */
const TOO_LONG_BYTES = 32 * 65_536;

test('a command that the kernel refuses, as it is too long, cannot be run', () => {
  const program = `
    import { startCommand } from '${MODULE}';
    const command = startCommand(['true', 'x'.repeat(${TOO_LONG_BYTES})], '/');
    command.kill('SIGTERM');
    console.log(await command.exitCode);`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
  expect(stdout).toBe('126\n');
  expect(stderr).toMatch(
    /^qcow2fs: true cannot be run: its words and the environment are longer than the kernel takes [^\n]*\n$/,
  );
});
