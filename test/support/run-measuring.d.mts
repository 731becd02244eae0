/**
 * Runs a command of QEMU's tools that makes a key for LUKS, and fails with what it said. QEMU measures by the processor time that
 * the kernel has counted for it how fast it can hash, and gives up if that is nothing (crypto/pbkdf.c,
 * qcrypto_pbkdf2_count_iters), as it may be on a busy machine: then it is run again.
 */
export function runMeasuring(command: string, args: readonly string[], options?: { readonly cwd?: string }): void;
