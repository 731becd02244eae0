/** The same bytes in a plain file: what the machine can do. */

export const rawFile = {
  name: 'raw file',
  programs: [],
  /** Nothing serves it, so there is nothing to start and nothing that takes memory. */
  isRaw: true,
  cannot: ({ views }) =>
    views.some(({ raw }) => raw === undefined) ? 'there is no raw file of that size here' : undefined,
  start: async ({ views }) => ({ files: views.map(({ raw }) => raw), pids: () => [] }),
};
