/** qemu-nbd with nbdfuse on top of it: a pair of processes for each state. */

import fs from 'node:fs';
import path from 'node:path';
import { runAnyway, start, undoLater } from '../run.mjs';
import { isMounted, waitForEnd, waitUntil } from './processes.mjs';

/** nbdfuse makes four connections where the server allows it, and with fewer its requests queue up. */
const MAX_CONNECTIONS = 8;

export const qemuNbd = {
  name: 'qemu-nbd + nbdfuse',
  programs: ['qemu-nbd', 'nbdfuse'],
  cannot: () => undefined,
  async start(subject, folder) {
    // When one fails, the others have come to their ends too, and nothing is started any more.
    const settled = await Promise.allSettled(
      subject.views.map((view, index) => startPair(subject, view, folder, index)),
    );
    const failed = settled.find(({ status }) => status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    const pairs = settled.map(({ value }) => value);
    return { files: pairs.map(({ file }) => file), pids: () => pairs.flatMap(({ pids }) => pids) };
  },
};

async function startPair({ image, passphraseFile }, { snapshot }, folder, index) {
  const socket = path.join(folder, `nbd-${index}.socket`);
  const mountpoint = path.join(folder, `nbd-${index}`);
  const file = path.join(mountpoint, 'disk');
  fs.mkdirSync(mountpoint, { recursive: true });
  const server = start('qemu-nbd', [
    ...['--persistent', '--read-only', `--shared=${MAX_CONNECTIONS}`, `--socket=${socket}`],
    ...(snapshot === undefined ? [] : [`--load-snapshot=snapshot.name=${snapshot}`]),
    ...imageArguments(image, passphraseFile),
  ]);
  undoLater(server.stop);
  await waitUntil(() => fs.existsSync(socket), server, 'qemu-nbd');
  const client = start('nbdfuse', ['--readonly', file, `nbd+unix:///?socket=${socket}`]);
  undoLater(async () => {
    if (isMounted(mountpoint)) await runAnyway('umount', ['-l', mountpoint]);
    await waitForEnd([client.pid]);
  });
  await waitUntil(() => fs.existsSync(file), client, 'nbdfuse');
  return { file, pids: [server.pid, client.pid] };
}

function imageArguments(image, passphraseFile) {
  if (passphraseFile === undefined) return ['--format=qcow2', image];
  return [
    ...['--object', `secret,id=key,file=${passphraseFile}`, '--image-opts'],
    `driver=qcow2,file.driver=file,file.filename=${image},encrypt.format=luks,encrypt.key-secret=key`,
  ];
}
