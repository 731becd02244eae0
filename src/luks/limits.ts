/** Limits, so that no field of a header can size an allocation or keep a processor busy for minutes. */

/** The unit of encryption, in LUKS1 and in QEMU's legacy encryption. */
export const SECTOR_BYTES = 512;

/** Two AES-256 keys, for XTS. */
export const MAX_KEY_BYTES = 64;

/** Every writer uses it (LUKS_STRIPES of cryptsetup); QEMU 8 and cryptsetup refuse other counts. */
export const KEY_STRIPES = 4000;

/**
 * Rounds of a hash that trying a passphrase on all key slots may take: one or two minutes. QEMU and cryptsetup choose as
 * many as take 2 s on the machine that makes the slot. For AES-256-XTS and sha256 that is 15 million for each slot on a
 * machine which does 4 million in a second here; eight slots from a machine three times as fast still open.
 */
export const MAX_PBKDF2_ROUNDS = 400_000_000;
