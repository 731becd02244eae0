/** Limits, so that no field of a header can size an allocation or keep a processor busy for minutes. */

/** The unit of encryption, in LUKS1 and in QEMU's legacy encryption. */
export const SECTOR_BYTES = 512;

/** Two AES-256 keys, for XTS. */
export const MAX_KEY_BYTES = 64;

/** Every writer uses it (LUKS_STRIPES of cryptsetup); QEMU 8 and cryptsetup refuse other counts. */
export const KEY_STRIPES = 4000;

/**
 * Rounds of SHA-256 that trying a passphrase on all key slots of a file may take: half a minute, at the 4 million in a second
 * of a processor without instructions for it. QEMU and cryptsetup choose as many as take 2 s on the machine that makes the
 * slot, 15 million for AES-256-XTS on that same processor: all eight slots open, or two of a machine four times as fast.
 */
export const MAX_PBKDF2_ROUNDS = 128_000_000;

/**
 * As above, for all files that are opened together: eight and a half minutes on that processor. A backing chain of 64 files
 * with a slot each as that processor makes them (17 million, with the digest of the key) needs 1.1 thousand million.
 */
export const MAX_TOTAL_PBKDF2_ROUNDS = 16 * MAX_PBKDF2_ROUNDS;

/** What a round of SHA-384 or SHA-512 counts: 1.5 million of them take a second there. */
export const LONG_DIGEST_ROUNDS = 3;
