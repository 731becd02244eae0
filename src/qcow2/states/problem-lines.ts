/** What is wrong, one line each, as far as anybody wants to read: damage may have as many lines as there are tables. */

const MAX_LINES = 20;

export class ProblemLines {
  readonly #lines: string[] = [];
  #count = 0;

  /** `describe` is only called for a line that is kept. */
  add(describe: () => string): void {
    this.#count += 1;
    if (this.#count <= MAX_LINES) this.#lines.push(describe());
  }

  list(): readonly string[] {
    const rest = this.#count - this.#lines.length;
    return rest === 0 ? this.#lines : [...this.#lines, `and ${rest} more: \`qcow2fs check\` counts them`];
  }
}
