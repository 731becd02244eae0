/** Reads encrypted clusters. */

import { noteComputation } from '../common/computation.ts';
import { countGarbage } from '../common/external-garbage.ts';
import { Qcow2fsError } from '../errors.ts';
import { SECTOR_BYTES } from '../luks/limits.ts';
import type { SectorCipher } from '../luks/sector-cipher.ts';
import { createCipherOf, type VolumeKey } from '../luks/volume-key.ts';
import type { Qcow2File } from './open-qcow2.ts';
import type { StoredClusters } from './stored-clusters.ts';

/** What is read and decrypted at once. */
const PIECE_BYTES = 128 * 1024;

export class EncryptedClusters {
  readonly #stored: StoredClusters;
  readonly #cipher: SectorCipher;
  readonly #isNumberedByGuest: boolean;
  /** Ciphertext goes here and never to the target: whatever fails, none of it can get out. */
  readonly #scratch = Buffer.alloc(PIECE_BYTES);

  /**
   * Undefined for a file that is not encrypted.
   * @throws Qcow2fsError LOCKED for one that is, without a key.
   */
  static of(file: Qcow2File, stored: StoredClusters, key: VolumeKey | undefined): EncryptedClusters | undefined {
    if (file.encryption === undefined) return undefined;
    if (key === undefined) {
      const { name } = file.storage;
      throw new Qcow2fsError('LOCKED', `${name} is encrypted: its passphrase is needed`, { data: { file: name } });
    }
    return new EncryptedClusters(file, stored, key);
  }

  private constructor(file: Qcow2File, stored: StoredClusters, key: VolumeKey) {
    this.#stored = stored;
    this.#cipher = createCipherOf(key);
    this.#isNumberedByGuest = file.encryption?.format === 'aes';
  }

  /**
   * Reads `length` bytes of the guest from `guestOffset` on, which lie at `hostOffset` in the file. The number of a sector,
   * which its initial vector is made of, is that of its place in the file with LUKS, and that of its place on the disk
   * with the legacy encryption (block/qcow2-cluster.c: crypt_physical_offset).
   *
   * A tail that was never written is zeros before it is decrypted, as in QEMU: what is preallocated in an encrypted image
   * reads like that, too.
   * @throws Qcow2fsError PAST_END, DAMAGED, IO.
   */
  read(hostOffset: number, guestOffset: number, length: number, target: Buffer, targetOffset: number): void {
    // Both offsets are at the same place of a sector, as clusters are whole sectors.
    let skip = hostOffset % SECTOR_BYTES;
    const sectorBase = (this.#isNumberedByGuest ? guestOffset : hostOffset) - hostOffset;
    let done = 0;
    noteComputation();
    while (done < length) {
      const position = hostOffset + done - skip;
      const wanted = Math.min(length - done, PIECE_BYTES - skip);
      const sectors = this.#scratch.subarray(0, Math.ceil((skip + wanted) / SECTOR_BYTES) * SECTOR_BYTES);
      this.#stored.read(sectors, 0, sectors.length, position, 'an encrypted cluster');
      const plain = this.#cipher.decrypt(sectors, (position + sectorBase) / SECTOR_BYTES);
      plain.copy(target, targetOffset + done, skip, skip + wanted);
      countGarbage(plain.length);
      done += wanted;
      skip = 0;
    }
  }
}
