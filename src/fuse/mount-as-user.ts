/**
 * Mounts as an ordinary user: fusermount3 opens the device, mounts, and hands over the open device through a socket whose
 * number it finds in its environment (util/fusermount.c of libfuse).
 */

import { DEVICE, requireDevice } from './device-file.ts';
import { escapeOption, findFusermount, NO_ALLOW_OTHER } from './fusermount.ts';
import {
  commonOptions,
  FSTYPE,
  type KernelMount,
  type KernelMountOptions,
  type Mounter,
  mountError,
  requireMount,
} from './kernel-mount.ts';
import { type DescriptorChannel, loadDescriptorChannels } from './receive-descriptor.ts';
import { runTool } from './run-tool.ts';

const SOCKET_VARIABLE = '_FUSE_COMMFD';
/** The place of the socket in the process of fusermount3. */
const CHILD_FD = 3;
const SUBTYPE = FSTYPE.replace('fuse.', '');

/** What fusermount3 says, and what helps. */
const REMEDIES: readonly (readonly [RegExp, string])[] = [
  [/user_allow_other/, NO_ALLOW_OTHER],
  [
    /open \/dev\/fuse: Permission denied$/,
    `only root may open ${DEVICE}: run \`chmod 0666 ${DEVICE}\` as root, which is its usual mode`,
  ],
  [
    /unknown option/,
    'fusermount3 does not know one of the options, as `nosymfollow` and `symfollow`: leave it out, or mount as root',
  ],
  [/determine username/, 'fusermount3 mounts only for users with an account, and yours is not in /etc/passwd'],
  [
    /Permission denied$/,
    'fusermount3 may not mount there; AppArmor may keep it to $HOME, /mnt, /media and /tmp ' +
      '(/etc/apparmor.d/fusermount3): choose a directory in one of these',
  ],
  [
    /Operation not permitted$/,
    'fusermount3 may not mount at all; give the container `--device /dev/fuse --cap-add SYS_ADMIN`',
  ],
];

/**
 * Finds all that it takes.
 * @throws Qcow2fsError MOUNT, with what is missing.
 */
export function openUserMounter(): Mounter {
  requireDevice();
  const helper = findFusermount();
  const openChannel = loadDescriptorChannels();
  return {
    mount: async (mountpoint, options) => {
      const channel = openChannel();
      try {
        return await mountThrough(helper, channel, mountpoint, options);
      } finally {
        channel.close();
      }
    },
  };
}

async function mountThrough(
  helper: string,
  channel: DescriptorChannel,
  mountpoint: string,
  options: KernelMountOptions,
): Promise<KernelMount> {
  const own = [`fsname=${escapeOption(options.source)}`, `subtype=${SUBTYPE}`];
  const words = [...commonOptions(options), ...own].join(',');
  // Nothing is waited for on the socket: what was sent stays in it when the sender has ended.
  const { isOk, message } = await runTool(helper, ['-o', words, '--', mountpoint], {
    extraFd: channel.senderFd,
    env: { [SOCKET_VARIABLE]: String(CHILD_FD) },
  });
  if (!isOk) throw mountError(mountpoint, REMEDIES.find(([pattern]) => pattern.test(message))?.[1] ?? message);
  const fd = channel.receive();
  // Without a process that holds the device, the mount is dead already.
  if (fd === undefined) {
    await runTool(helper, ['-u', '-q', '-z', '--', mountpoint]);
    throw mountError(mountpoint, `${helper} did not hand over ${DEVICE}`);
  }
  return { mount: requireMount(mountpoint), fd };
}
