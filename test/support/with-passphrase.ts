/** Opens images with one passphrase, in one step. */

import { createUnlockSession } from '../../src/luks/unlock-session.ts';
import type { KeySource } from '../../src/open-image/layer-keys.ts';
import { unlockEncryption } from '../../src/qcow2/encryption.ts';
import { FileStorage } from '../../src/storage/file-storage.ts';

/** One passphrase for all layers, which stays as it is. */
export function withPassphrase(passphrase: Buffer): KeySource {
  const session = createUnlockSession();
  return ({ file, qcow2 }) => unlockEncryption(new FileStorage(file), qcow2.encryption, passphrase, session);
}
