/** Who writes to an image, for those that look at it once. */

import { nameOfWriter, WriterWatch } from './writer-watch.ts';

/**
 * The process that writes to the image whose descriptor this is. One that has it open for that counts: nobody waits here to see
 * whether it does.
 */
export function writerOf(fd: number): string | undefined {
  const writer = new WriterWatch(fd).look(true);
  return writer && nameOfWriter(writer);
}
