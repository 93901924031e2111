import { once } from "node:events";
import type { ClientHttp2Session } from "node:http2";
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { KEEPALIVE_TIME_MS, KEEPALIVE_TIMEOUT_MS } from "../../packages/service/src/grpc/limits.ts";
import { ask } from "../support/requests.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { openWireCall } from "../support/wire-call.ts";

// A machine that is gone says nothing, no FIN and no RST: only keepalive finds out. Its minutes pass at once here; what they
// are is the server's own constants.

let mesh: TestWorker;
let token: string;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 2 });
  token = await mesh.token();
});
beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});
afterAll(() => mesh.close());

const figures = () => mesh.running.worker.engine.figures();
const open = (address: string, maxTokens: number) =>
  openWireCall(address, { token, request: ask("hello", { maxTokens }) });

/** Everything that the server has sent so far is here, and it has our answers to that. */
async function roundTrips(session: ClientHttp2Session): Promise<void> {
  for (let trip = 0; trip < 2; trip++) await new Promise((resolve) => session.ping((error) => resolve(error)));
}

interface Line {
  readonly address: string;
  /** From now on nothing comes through, in either direction, and nobody is told. */
  cut(): void;
}

/** A line to the worker that can be cut. */
async function openLine(): Promise<Line> {
  const sockets: Socket[] = [];
  const server = createServer((near) => {
    const far = createConnection(mesh.port, "127.0.0.1");
    near.pipe(far).on("error", () => {});
    far.pipe(near).on("error", () => {});
    sockets.push(near, far);
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut: () => {
      for (const socket of sockets) socket.unpipe().pause();
    },
  };
}

test("a machine that is gone loses its slot to whoever waits; a stream beside it goes on", async () => {
  const line = await openLine();
  const gone = open(line.address, 1_000_000);
  const beside = open(mesh.address, 1_000_000);
  await Promise.all([once(gone.stream, "data"), once(beside.stream, "data")]);
  beside.stream.resume();
  line.cut();
  const waits = open(mesh.address, 3);
  waits.stream.resume();
  await vi.waitFor(() => expect(figures()).toMatchObject({ running: 2, waiting: 1 }));

  vi.advanceTimersByTime(KEEPALIVE_TIME_MS);
  await Promise.all([beside, waits].map(({ session }) => roundTrips(session)));
  vi.advanceTimersByTime(KEEPALIVE_TIMEOUT_MS - 1_000);
  await roundTrips(beside.session);
  expect(figures()).toMatchObject({ running: 2, waiting: 1 });
  vi.advanceTimersByTime(1_000);
  expect((await waits.trailers)["grpc-status"]).toBe("0");
  // Cut short, and not at its own end.
  const ended = () => mesh.log().filter(({ msg, code }) => msg === "call ended" && code === "CANCELLED");
  await vi.waitFor(() => expect(ended()).toHaveLength(1));
  expect((await beside.trailers)["grpc-status"]).toBe("0");
  expect(figures()).toMatchObject({ running: 0, waiting: 0, positions: 0 });
  await vi.waitFor(() => expect(mesh.running.server.runningCalls).toBe(0));
});

test("a connection that never says anything is closed as well", async () => {
  const socket = createConnection(mesh.port, "127.0.0.1");
  onTestFinished(() => {
    socket.destroy();
  });
  // The server greets first: it has the connection.
  await once(socket, "data");
  socket.on("data", () => {});
  const closed = once(socket, "close");
  vi.advanceTimersByTime(KEEPALIVE_TIME_MS);
  vi.advanceTimersByTime(KEEPALIVE_TIMEOUT_MS);
  await closed;
});

test("a minute and a half at most, whatever is behind the connection", () => {
  expect(KEEPALIVE_TIME_MS + KEEPALIVE_TIMEOUT_MS).toBeLessThanOrEqual(90_000);
});
