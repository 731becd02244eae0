/** Entry of a daemon's process. */

import { followImages } from './follow-images.ts';
import { runDaemonProcess } from './run-daemon-process.ts';
import {
  closeServedImages,
  createFileSystem,
  createOutline,
  finish,
  onThreadEnd,
  openServedImages,
  retireServedImages,
} from './served-images.ts';

await runDaemonProcess({
  open: openServedImages,
  close: closeServedImages,
  createFileSystem,
  createOutline,
  follow: followImages,
  onThreadEnd,
  finish,
  retire: retireServedImages,
  workerEntry: new URL('./worker.js', import.meta.url),
});
