/**
 * What the bytes of a passphrase may mean. cryptsetup --key-file and a secret's file of QEMU are taken as they are; one that
 * `echo` wrote for a passphrase that was typed into a prompt has a newline more.
 */

const NEWLINE = 0x0a;

/** One for all volumes that are unlocked together: all are tried with what the last one meant first, as a try takes seconds. */
export class PassphraseReadings {
  #isTrimmedFirst = false;

  /** Not copies. */
  of(passphrase: Buffer): Buffer[] {
    if (passphrase.at(-1) !== NEWLINE) return [passphrase];
    const readings = [passphrase, passphrase.subarray(0, -1)];
    return this.#isTrimmedFirst ? readings.reverse() : readings;
  }

  /** A volume has opened with `reading` of `passphrase`. */
  noteOpened(passphrase: Buffer, reading: Buffer): void {
    if (passphrase.at(-1) === NEWLINE) this.#isTrimmedFirst = reading.length < passphrase.length;
  }
}
