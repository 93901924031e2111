import { createConnection, createServer, type Server, type Socket } from "node:net";

/** Where a proxy listens or leads. */
export type Endpoint = { readonly path: string } | { readonly host: string; readonly port: number };

/**
 * Connections that break as networks break them. Between a client and a replica, or a replica and its database.
 */
export class FlakyProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #target: () => Endpoint;
  readonly #pairs = new Set<Pair>();
  #delayMs = 0;
  #isHalfOpen = false;

  /**
   * @param listen - port 0 takes a free one
   * @param target - asked for each connection: what is killed comes back elsewhere
   */
  static async open(listen: Endpoint, target: () => Endpoint): Promise<FlakyProxy> {
    const proxy = new FlakyProxy(target);
    await new Promise<void>((resolve, reject) => {
      proxy.#server.once("error", reject);
      proxy.#server.listen(listen, resolve);
    });
    return proxy;
  }

  private constructor(target: () => Endpoint) {
    this.#target = target;
    this.#server = createServer((client) => this.#connect(client));
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("the proxy has no port");
    return address.port;
  }

  /** End every connection with a reset. */
  cut(): void {
    for (const { client, server } of this.#pairs) {
      drop(client);
      drop(server);
    }
  }

  /** Everything takes so much longer, each way. */
  delay(milliseconds: number): void {
    this.#delayMs = milliseconds;
  }

  /** Open connections stay open and carry nothing any more, as when a machine is gone without a word; new ones too. */
  halfOpen(isHalfOpen: boolean): void {
    this.#isHalfOpen = isHalfOpen;
    // What stood still is not continued: its bytes are lost, as they would be.
    if (!isHalfOpen) this.cut();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #connect(client: Socket): void {
    const server = createConnection(this.#target());
    const pair = { client, server };
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on("error", end).on("close", end);
    client.on("data", (bytes) => this.#pass(bytes, server));
    server.on("data", (bytes) => this.#pass(bytes, client));
  }

  #pass(bytes: Buffer, to: Socket): void {
    if (this.#isHalfOpen) return;
    if (this.#delayMs === 0) to.write(bytes);
    else setTimeout(() => to.writable && to.write(bytes), this.#delayMs);
  }
}

/**
 * With a reset where there is such a thing: sockets in the file system have none, and one whose end is under way must not
 * have it. Node.js 24 forgets to close the handle then, and waits for it without end, at full speed, when the process is over.
 */
function drop(socket: Socket): void {
  if (socket.remoteAddress === undefined || socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
}
