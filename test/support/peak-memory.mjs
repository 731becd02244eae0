/**
 * Loaded with `node --import`: at the end of a process, writes its peak memory in KiB, as the kernel counts it, to the file
 * that PEAK_MEMORY_FILE names. Not `process.resourceUsage().maxRSS`, which counts what forked the process as well.
 */

import fs from 'node:fs';

process.on('exit', () => {
  const [, peak] = /^VmHWM:\s*(\d+) kB$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'));
  fs.writeFileSync(process.env.PEAK_MEMORY_FILE, peak);
});
