/** A virtual machine that has an image open for writing, without a guest: what a guest writes comes through NBD. */

import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { start, undoLater } from '../bench/run.mjs';
import { NbdClient } from './nbd.mjs';
import { connectWhenThere, Monitor } from './qmp.mjs';

const NODE = 'disk';

/**
 * `cache`: `writeback`, or `none` for O_DIRECT. The machine ends with this process, whatever becomes of it.
 */
export async function startMachine(folder, image, { cache }) {
  const sockets = { monitor: path.join(folder, 'monitor'), nbd: path.join(folder, 'nbd') };
  const direct = `cache.direct=${cache === 'none' ? 'on' : 'off'}`;
  const drive = [
    ...['driver=qcow2', `node-name=${NODE}`, 'discard=unmap', direct],
    ...['file.driver=file', `file.filename=${image}`, 'file.discard=unmap', `file.${direct}`],
  ].join(',');
  const qemu = start('setpriv', [
    ...['--pdeathsig', 'KILL', '--', 'qemu-system-x86_64', '-S', '-machine', 'pc,accel=tcg', '-m', '16', '-nodefaults'],
    ...['-display', 'none', '-qmp', `unix:${sockets.monitor},server=on,wait=off`, '-blockdev', drive],
  ]);
  undoLater(async () => {
    if (!qemu.hasEnded()) await qemu.stop();
  });
  const monitor = new Monitor(await connectWhenThere(sockets.monitor, qemu.hasEnded));
  undoLater(() => monitor.close());
  await monitor.run('qmp_capabilities');
  await monitor.run('nbd-server-start', { addr: { type: 'unix', data: { path: sockets.nbd } } });
  await monitor.run('block-export-add', { type: 'nbd', id: NODE, 'node-name': NODE, name: NODE, writable: true });
  const guest = new NbdClient(await connectWhenThere(sockets.nbd, qemu.hasEnded));
  undoLater(() => guest.close());
  await guest.open(NODE);
  return new Machine(qemu, monitor, guest);
}

class Machine {
  #qemu;
  #monitor;
  #guest;

  constructor(qemu, monitor, guest) {
    this.#qemu = qemu;
    this.#monitor = monitor;
    this.#guest = guest;
  }

  async write(offset, data) {
    await this.#guest.write(offset, data);
  }

  async writeZeros(offset, length) {
    await this.#guest.writeZeros(offset, length);
  }

  async createSnapshot(name) {
    await this.#monitor.run('blockdev-snapshot-internal-sync', { device: NODE, name });
  }

  /** A snapshot with VM state. */
  async saveMachine(name) {
    await this.#monitor.runHuman(`savevm ${name}`);
  }

  async deleteSnapshot(name) {
    await this.#monitor.run('blockdev-snapshot-delete-internal-sync', { device: NODE, name });
  }

  /** `{id, name, dateMs}` of each snapshot. */
  async snapshots() {
    const nodes = await this.#monitor.run('query-named-block-nodes', { flat: true });
    const { snapshots = [] } = nodes.find((node) => node['node-name'] === NODE).image;
    return snapshots.map((each) => ({
      id: each.id,
      name: each.name,
      dateMs: each['date-sec'] * 1000 + each['date-nsec'] / 1e6,
    }));
  }

  /** Ends it as a shutdown does, with all that it has kept in memory written. */
  async quit() {
    await this.#monitor.run('quit');
    while (!this.#qemu.hasEnded()) await sleep(10);
  }
}
