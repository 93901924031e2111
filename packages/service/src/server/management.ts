import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Hono } from "hono";
import { portError } from "./port-error.ts";

/** What the management port answers from. */
export interface ManagementState {
  /** The process can do its work; where it cannot, only a new start helps. */
  readonly alive: () => boolean;
  /** Calls are let in. */
  readonly ready: () => boolean;
  /** Why not, or "ready". */
  readonly describe: () => string;
  /** All figures in the text format of Prometheus. */
  readonly metrics: () => Promise<string>;
}

export interface Management {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * The management port: `/healthz` while the process works, `/readyz` while it takes calls, `/metrics` for Prometheus. Plain
 * HTTP, because Kubernetes probes cannot present certificates; it tells nothing of tenants.
 *
 * @throws ServiceError PORT_IN_USE
 */
export async function startManagement(host: string, port: number, state: ManagementState): Promise<Management> {
  const app = new Hono();
  app.get("/healthz", (c) => (state.alive() ? c.text("ok\n") : c.text("broken\n", 503)));
  app.get("/readyz", (c) => c.text(`${state.describe()}\n`, state.ready() ? 200 : 503));
  app.get("/metrics", async (c) => c.text(await state.metrics(), 200, { "content-type": PROMETHEUS_TEXT }));

  const server = createServer({ requestTimeout: 5_000, headersTimeout: 5_000, keepAliveTimeout: 5_000 });
  server.on("request", async (request, response) => {
    try {
      // No route reads a body, so a request is its method and its path.
      const answer = await app.fetch(
        new Request(new URL(request.url ?? "/", "http://management"), { method: request.method ?? "GET" }),
      );
      response.writeHead(answer.status, Object.fromEntries(answer.headers));
      response.end(Buffer.from(await answer.arrayBuffer()));
    } catch {
      // A target that is no URL, or a method that Request refuses.
      response.writeHead(400).end();
    }
  });
  server.maxConnections = MAX_CONNECTIONS;
  await listen(server, host, port);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

const PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8";

/** Probes and a person or two. */
const MAX_CONNECTIONS = 64;

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(portError(error, "managementPort", host, port)));
    server.listen({ host, port }, resolve);
  });
}
