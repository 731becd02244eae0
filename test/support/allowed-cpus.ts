/** Where a process or a thread may run. */

import fs from 'node:fs';

/** `task` is a name in /proc, such as `thread-self` or `12/task/34`. */
export function allowedCpus(task: string): number[] {
  const status = fs.readFileSync(`/proc/${task}/status`, 'utf8');
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1];
  if (list === undefined) throw new Error(`/proc/${task}/status does not tell the CPUs`);
  return list.split(',').flatMap((range) => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}
