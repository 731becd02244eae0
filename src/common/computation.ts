/** Who computes (inflates, decrypts) keeps a processor busy for as long as that takes; a thread that has begun says so, once. */

let tell: (() => void) | undefined;

/** Calls `told` when this thread begins to compute. */
export function onFirstComputation(told: () => void): void {
  tell = told;
}

/** To be called with each computation. */
export function noteComputation(): void {
  if (tell === undefined) return;
  const told = tell;
  tell = undefined;
  told();
}
