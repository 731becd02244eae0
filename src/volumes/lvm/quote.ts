/** Names from the disk in messages: nothing says how long they are, or what is in them. */

/** Room for the names that LVM allows (NAME_LEN is 128) and for the paths of devices. */
const MAX_QUOTED_LENGTH = 128;

/** `text` in double quotes, cut if it is long, with control characters escaped. */
export function quote(text: string): string {
  return text.length > MAX_QUOTED_LENGTH
    ? `${JSON.stringify(text.slice(0, MAX_QUOTED_LENGTH))}...`
    : JSON.stringify(text);
}
