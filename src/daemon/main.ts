/** Entry of a daemon's process. */

import { runDaemonProcess } from './run-daemon-process.ts';
import { closeServedImage, createFileSystem, openServedImage } from './served-image.ts';

await runDaemonProcess({
  open: openServedImage,
  close: closeServedImage,
  createFileSystem,
  workerEntry: new URL('./worker.js', import.meta.url),
});
