/** A client of QEMU's NBD server (proto.md of the NBD project), for writing as a guest does: one request at a time. */

const NBD_OPT_EXPORT_NAME = 1;
const NBD_FLAG_C_FIXED_NEWSTYLE = 1;
const NBD_FLAG_C_NO_ZEROES = 2;
const NBD_REQUEST_MAGIC = 0x25609513;
const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
const NBD_CMD_WRITE = 1;
const NBD_CMD_WRITE_ZEROES = 6;
/** Magic, IHAVEOPT and the flags of the server. */
const GREETING_BYTES = 18;
/** Size and flags of the export. */
const EXPORT_BYTES = 10;
const REPLY_BYTES = 16;

export class NbdClient {
  #socket;
  #received = Buffer.alloc(0);
  #wakeUp = () => {};
  #hasEnded = false;

  constructor(socket) {
    this.#socket = socket;
    socket.on('data', (piece) => {
      this.#received = Buffer.concat([this.#received, piece]);
      this.#wakeUp();
    });
    // Its end says the same: QEMU may be gone before it has read all.
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#hasEnded = true;
      this.#wakeUp();
    });
  }

  /** Opens the export of this name. */
  async open(name) {
    await this.#take(GREETING_BYTES);
    const choice = Buffer.alloc(20);
    choice.writeUInt32BE(NBD_FLAG_C_FIXED_NEWSTYLE | NBD_FLAG_C_NO_ZEROES, 0);
    choice.write('IHAVEOPT', 4, 'latin1');
    choice.writeUInt32BE(NBD_OPT_EXPORT_NAME, 12);
    choice.writeUInt32BE(name.length, 16);
    this.#socket.write(Buffer.concat([choice, Buffer.from(name, 'latin1')]));
    await this.#take(EXPORT_BYTES);
  }

  async write(offset, data) {
    await this.#request(NBD_CMD_WRITE, offset, data.length, data);
  }

  /** The clusters may be given back, as a guest that discards lets QEMU do. */
  async writeZeros(offset, length) {
    await this.#request(NBD_CMD_WRITE_ZEROES, offset, length, Buffer.alloc(0));
  }

  close() {
    this.#socket.destroy();
  }

  async #request(type, offset, length, data) {
    const header = Buffer.alloc(28);
    header.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
    header.writeUInt16BE(type, 6);
    header.writeBigUInt64BE(BigInt(offset), 16);
    header.writeUInt32BE(length, 24);
    this.#socket.write(Buffer.concat([header, data]));
    const reply = await this.#take(REPLY_BYTES);
    if (reply.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC) throw new Error('NBD: this is no reply');
    const code = reply.readUInt32BE(4);
    if (code !== 0) throw new Error(`NBD: request ${type} of ${length} bytes at ${offset} failed with ${code}`);
  }

  async #take(count) {
    while (this.#received.length < count) {
      if (this.#hasEnded) throw new Error('QEMU closed its NBD server');
      await new Promise((resolve) => {
        this.#wakeUp = resolve;
      });
    }
    const bytes = this.#received.subarray(0, count);
    this.#received = this.#received.subarray(count);
    return bytes;
  }
}
