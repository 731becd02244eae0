/** What the bench tells on the way, on standard error. */

export function say(text) {
  console.error(`bench: ${text}`);
}
