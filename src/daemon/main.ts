/** Entry of a daemon's process. */

import { runDaemonProcess } from './run-daemon-process.ts';
import { closeServedImage, openServedImage } from './served-image.ts';

await runDaemonProcess({
  open: openServedImage,
  close: closeServedImage,
  workerEntry: new URL('./worker.js', import.meta.url),
});
