/** A key on its way to where the image is opened, perhaps in another process. Apart from what finds keys: few need that. */

export interface LayerKey {
  /** The place of its image among those that were unlocked together. */
  readonly image: number;
  readonly depth: number;
  /** Of the file and its encryption, so that the key cannot meet another one. Not secret. */
  readonly identity: string;
  readonly key: Buffer;
}

/** Overwrites the keys with zeros: whoever has got them does so once the image is open, or cannot be opened. */
export function forgetLayerKeys(keys: readonly LayerKey[]): void {
  for (const { key } of keys) key.fill(0);
}
