import { spawnSync } from 'node:child_process';

const MAX_ATTEMPT_COUNT = 5;

export function runMeasuring(command, args, { cwd } = {}) {
  for (let attempt = 1; ; attempt++) {
    const { error, status, stderr } = spawnSync(command, args, {
      cwd,
      encoding: 'utf8',
      env: { ...process.env, LC_ALL: 'C' },
    });
    if (error !== undefined) throw error;
    if (status === 0) return;
    if (attempt === MAX_ATTEMPT_COUNT || !stderr.includes('Unable to get accurate CPU usage'))
      throw new Error(`${[command, ...args].join(' ')}: exit ${status}\n${stderr}`);
  }
}
