/** The two programs that are compared: each shows the current state of an image as a file. */

import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { checkInterrupted, runAnyway, start, undoLater } from './run.mjs';

const QCOW2FS = fileURLToPath(new URL('../../bin/qcow2fs', import.meta.url));
const START_TIMEOUT_MS = 20_000;

/** Mounts the image with qcow2fs. */
export async function startQcow2fs(image, folder) {
  const mountpoint = path.join(folder, 'qcow2fs');
  fs.mkdirSync(mountpoint);
  await runAnyway(QCOW2FS, ['mount', image, mountpoint]);
  undoLater(() => runAnyway(QCOW2FS, ['umount', mountpoint]));
  checkInterrupted();
  return { name: 'qcow2fs', file: path.join(mountpoint, 'current', 'disk.raw'), pids: processesNaming(mountpoint) };
}

/** Exports the image with qemu-storage-daemon, over a file that the export hides. */
export async function startQemuExport(image, folder) {
  const file = path.join(folder, 'qemu-export');
  fs.writeFileSync(file, '');
  const daemon = start('qemu-storage-daemon', [
    ...['--blockdev', `driver=file,node-name=file,filename=${image},read-only=on`],
    ...['--blockdev', 'driver=qcow2,node-name=image,file=file,read-only=on'],
    ...['--export', `type=fuse,id=export,node-name=image,mountpoint=${file},writable=off`],
  ]);
  undoLater(async () => {
    await daemon.stop();
    if (fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${file} `)) await runAnyway('umount', ['-l', file]);
  });
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (fs.statSync(file).size === 0) {
    checkInterrupted();
    if (daemon.hasEnded() || Date.now() > deadline) throw new Error('qemu-storage-daemon does not export the image');
    await sleep(20);
  }
  return { name: 'qemu-storage-daemon', file, pids: [daemon.pid] };
}

/** The largest resident memory that the processes of a server had so far, in bytes. */
export function peakMemoryBytes(server) {
  const kibibytes = server.pids.map((pid) => {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]);
  });
  return kibibytes.reduce((sum, count) => sum + count, 0) * 1024;
}

/** Processes that have the mount point on their command line: the daemon and its helpers. */
function processesNaming(mountpoint) {
  const pids = fs.readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => commandLine(pid).includes(mountpoint));
}

function commandLine(pid) {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    // It has ended since the listing.
    return '';
  }
}
