/** The ways in which the suite looks at an image. */

import fs from 'node:fs';
import path from 'node:path';
import { closeServedImage, openServedImage } from '../../src/daemon/served-image.ts';
import { createTree } from '../../src/daemon/served-tree.ts';
import { NO_CHAIN_OPTIONS } from '../../src/open-image/layers.ts';
import { asOrdinaryUser, ordinaryUser } from '../support/ordinary-user.ts';
import { runCommand } from '../support/run-command.ts';
import type { Adapter } from './adapter.ts';
import { openDirectAdapter } from './direct-adapter.ts';
import { AGENT, openMountedAdapter } from './mounted-adapter.ts';

export interface OpenFiles {
  readonly files: Adapter;
  close(): Promise<void>;
}

/** Where an image is to be shown: a folder that everybody can pass, with the program and an empty `mnt` in it. */
export interface Workshop {
  readonly folder: string;
  readonly launcher: string;
}

export interface Transport {
  readonly title: string;
  readonly isMounted: boolean;
  /** Who owns the images and mounts them. */
  readonly owner: () => { readonly uid: number; readonly gid: number };
  open(workshop: Workshop, image: string): Promise<OpenFiles>;
}

export const DIRECT = 'the FileSystem object';
export const KERNEL_ROOT = 'kernel, as root';
export const KERNEL_USER = 'kernel, as an ordinary user';
export const NATIVE_ROOT = 'fuse-native, as root';
export const NATIVE_USER = 'fuse-native, as an ordinary user';

const root = () => ({ uid: 0, gid: 0 });

export const TRANSPORTS: readonly Transport[] = [
  { title: DIRECT, isMounted: false, owner: root, open: (_, image) => openDirectly(image) },
  mounted(KERNEL_ROOT, 'kernel', root, () => []),
  mounted(KERNEL_USER, 'kernel', ordinaryUser, asOrdinaryUser),
  mounted(NATIVE_ROOT, 'fuse-native', root, () => []),
  mounted(NATIVE_USER, 'fuse-native', ordinaryUser, asOrdinaryUser),
];

async function openDirectly(image: string): Promise<OpenFiles> {
  const served = await openServedImage(image, [], {
    chain: NO_CHAIN_OPTIONS,
    onMissing: 'error',
    ownership: {},
    isCurrentLive: false,
  });
  return {
    files: openDirectAdapter(createTree(served)),
    close: async () => closeServedImage(served),
  };
}

function mounted(
  title: string,
  transport: string,
  owner: Transport['owner'],
  prefix: () => readonly string[],
): Transport {
  return {
    title,
    isMounted: true,
    owner,
    async open({ folder, launcher }, image) {
      const mountpoint = fs.mkdtempSync(path.join(folder, 'mnt-'));
      fs.chownSync(mountpoint, owner().uid, owner().gid);
      // The checkout may lie where other users cannot pass.
      const agent = path.join(folder, 'agent.mjs');
      fs.copyFileSync(AGENT, agent);
      const run = (...args: string[]) => {
        const [program = '', ...others] = [...prefix(), launcher, ...args];
        runCommand(program, others);
      };
      run('mount', '--transport', transport, image, mountpoint);
      const { files, close } = openMountedAdapter(mountpoint, prefix(), agent);
      return {
        files,
        async close() {
          await close();
          run('umount', mountpoint);
        },
      };
    },
  };
}
