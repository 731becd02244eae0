/** What a daemon is told, for tests that are one themselves. */

import type { DaemonOptions } from '../../src/daemon/mount-options.ts';

/** As for `qcow2fs mount` without options. */
export function optionsFor(imagePath: string): DaemonOptions {
  return {
    imagePaths: [imagePath],
    mountpoint: '/mnt',
    directIo: false,
    transport: 'auto',
    isForeground: false,
    chain: { allowedFolders: [] },
    onMissing: 'error',
    isCurrentLive: false,
    ownership: {},
    kernel: { allowOther: false, isWritable: false, extra: [], source: imagePath },
    hasKeys: false,
  };
}
