/** Something wrong with the header or its extensions that keeps QEMU from opening the image, but not from being read here. */
export interface HeaderProblem {
  readonly field: 'backing_format' | 'crypt_method' | 'data_file' | 'header_extension';
  /** Where in the file. */
  readonly offset: number;
  readonly message: string;
}
