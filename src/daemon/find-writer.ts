/** Searches all processes for the one that may write to the image: costs a look at each open file of the machine. */

import { listProcFolder, readProcLink } from './proc-files.ts';
import {
  type Descriptor,
  type DescriptorInfo,
  type ImageIdentity,
  isListedAs,
  isOfImage,
  readDescriptorInfo,
  Superblocks,
  statDescriptor,
} from './proc-identity.ts';

export interface LockSearch {
  /** A descriptor through which a writer's lock on the image is held; undefined if none is to be seen. */
  readonly holder: Descriptor | undefined;
  /** How many locks were found that are listed as the image's and are on other files. */
  readonly otherLockCount: number;
}

/** Finds who holds the writer's lock that is listed for the image. */
export function findLockHolder(image: ImageIdentity): LockSearch {
  const superblocks = new Superblocks();
  const otherFiles = new Map<string, number>();
  for (const descriptor of openFiles()) {
    const info = readDescriptorInfo(descriptor);
    const lockCount = info?.writerLocks.filter((lock) => isListedAs(image, lock)).length ?? 0;
    if (info === undefined || lockCount === 0) continue;
    const isImage = isOfImage(image, descriptor, info, superblocks);
    if (isImage === true) return { holder: descriptor, otherLockCount: 0 };
    // Descriptors of one file may share one lock (fork(2)), so they count once.
    const stat = isImage === false ? statDescriptor(descriptor) : undefined;
    if (stat !== undefined) otherFiles.set(`${stat.dev}:${stat.ino}`, lockCount);
  }
  return { holder: undefined, otherLockCount: [...otherFiles.values()].reduce((sum, count) => sum + count, 0) };
}

/** Finds a descriptor of another process that can write to the image. */
export function findOpenWriter(image: ImageIdentity): Descriptor | undefined {
  const superblocks = new Superblocks();
  for (const descriptor of openFiles()) {
    const info = readDescriptorInfo(descriptor);
    if (info !== undefined && canWrite(image, descriptor, info, superblocks)) return descriptor;
  }
  return undefined;
}

/** True while a writer's lock on the image is held through a descriptor that was found to be one of the image. */
export function holdsWriterLock(image: ImageIdentity, descriptor: Descriptor): boolean {
  return readDescriptorInfo(descriptor)?.writerLocks.some((lock) => isListedAs(image, lock)) ?? false;
}

/** True while the image can be written to through a descriptor. */
export function isOpenForWriting(image: ImageIdentity, descriptor: Descriptor): boolean {
  const info = readDescriptorInfo(descriptor);
  return info !== undefined && canWrite(image, descriptor, info, new Superblocks());
}

function canWrite(
  image: ImageIdentity,
  descriptor: Descriptor,
  info: DescriptorInfo,
  superblocks: Superblocks,
): boolean {
  return info.isWritable && isOfImage(image, descriptor, info, superblocks) === true;
}

/** The descriptors of all other processes that are to be seen, but those of sockets, pipes and the like. */
function* openFiles(): Generator<Descriptor> {
  for (const name of listProcFolder('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    for (const fd of listProcFolder(`/proc/${pid}/fd`)) {
      // `socket:[12]`, `anon_inode:[eventfd]`: only files have a path.
      if (readProcLink(`/proc/${pid}/fd/${fd}`)?.startsWith('/')) yield { pid, fd: Number(fd) };
    }
  }
}
