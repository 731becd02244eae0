/**
 * A socket over which another process hands over an open file (unix(7), SCM_RIGHTS). Node.js drops descriptors that arrive
 * on its pipes, so recvmsg(2) is called through koffi. Layouts are those of every 64-bit little-endian Linux.
 */

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Koffi, lastError, requireKoffi } from '../common/koffi.ts';
import { messageOf, Qcow2fsError } from '../errors.ts';

export interface DescriptorChannel {
  /** The sender's end, to be inherited by its process. */
  readonly senderFd: number;
  /**
   * The descriptor that was sent, in this process and not inherited by others; undefined if none came. Does not wait: to
   * be called when the sender has ended.
   */
  receive(): number | undefined;
  /** Closes both ends. */
  close(): void;
}

/** `data.missing` of the error that says that koffi cannot be loaded. */
export const MISSING_KOFFI = 'koffi';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;

/**
 * Finds koffi, which takes some milliseconds and is therefore only done by who needs it. Returns how to open a channel.
 * @throws Qcow2fsError MOUNT, with how to get koffi.
 */
export function loadDescriptorChannels(): () => DescriptorChannel {
  const koffi = findKoffi();
  const libc = koffi.load(null);
  const socketpair = libc.func<[number, number, number, number[]]>('int socketpair(int, int, int, _Out_ int *)');
  const recvmsg = libc.func<[number, Buffer, number]>('intptr_t recvmsg(int, void *, int)');
  return () => {
    const ends: number[] = [0, 0];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
      throw new Qcow2fsError('MOUNT', `no socket can be made: ${lastError(koffi).code}`);
    }
    const [senderFd = -1, receiverFd = -1] = ends;
    return {
      senderFd,
      receive: () => receive(koffi, recvmsg, receiverFd),
      close: () => {
        fs.closeSync(senderFd);
        fs.closeSync(receiverFd);
      },
    };
  };
}

function findKoffi(): Koffi {
  try {
    return requireKoffi();
  } catch (cause) {
    const [reason] = messageOf(cause).split('\n', 1);
    const folder = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
    throw new Qcow2fsError(
      'MOUNT',
      `mounting as an ordinary user takes the npm package koffi, which cannot be loaded (${reason}): install it with ` +
        `\`npm install --omit=dev --include=optional --ignore-scripts --prefix ${folder}\`, or run as root`,
      { data: { missing: MISSING_KOFFI }, cause },
    );
  }
}

/**
 *     struct iovec   base@0 length@8
 *     struct msghdr  name@0 namelen@8 iov@16 iovlen@24 control@32 controllen@40 flags@48
 *     struct cmsghdr len@0 level@8 type@12, data@16
 */
function receive(
  koffi: Koffi,
  recvmsg: (fd: number, message: Buffer, flags: number) => number,
  fd: number,
): number | undefined {
  const data = Buffer.alloc(8);
  const vector = Buffer.alloc(16);
  const control = Buffer.alloc(24);
  const message = Buffer.alloc(56);
  vector.writeBigUInt64LE(koffi.address(data), 0);
  vector.writeBigUInt64LE(1n, 8);
  message.writeBigUInt64LE(koffi.address(vector), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(koffi.address(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  const length = recvmsg(fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  const isDescriptor = control.readInt32LE(8) === SOL_SOCKET && control.readInt32LE(12) === SCM_RIGHTS;
  return length > 0 && isDescriptor ? control.readInt32LE(16) : undefined;
}
