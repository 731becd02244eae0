/** Entry of a daemon's process. */

import { runDaemonProcess } from './run-daemon-process.ts';
import { openServedImage } from './served-image.ts';

await runDaemonProcess({
  open: openServedImage,
  workerEntry: new URL('./worker.js', import.meta.url),
});
