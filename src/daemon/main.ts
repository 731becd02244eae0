/** Entry of a daemon's process. */

import { runDaemonProcess } from './run-daemon-process.ts';
import { closeServedImages, createFileSystem, openServedImages } from './served-images.ts';

await runDaemonProcess({
  open: openServedImages,
  close: closeServedImages,
  createFileSystem,
  workerEntry: new URL('./worker.js', import.meta.url),
});
