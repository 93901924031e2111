import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import {
  type Client,
  createClient,
  createLogger,
  type DevTokenClaims,
  ensureDevKeys,
  type Logger,
  loadConfig,
  openDevTls,
  signDevToken,
  type TlsSource,
} from "@persona-mesh/service";
import { REGISTRY_OPTIONS, type RegistryValues } from "../options.ts";
import { type RunningRegistry, startRegistry } from "../start-registry.ts";
import { openTestDatabase, type TestDatabase } from "./test-database.ts";

/** A real registry on a real database, and its callers. */
export interface TestRegistry {
  readonly address: string;
  /** Holds the development keys and authority. */
  readonly dataDir: string;
  readonly database: TestDatabase;
  readonly running: RunningRegistry;
  /** Lines of the log so far, of all replicas. */
  log(): Record<string, unknown>[];
  token(claims?: Partial<DevTokenClaims>): Promise<string>;
  /** Calls with a token; an admin of acme called "alice" where nothing else is said. */
  client<Service extends DescService>(
    service: Service,
    claims?: Partial<DevTokenClaims>,
    replica?: RunningRegistry,
  ): Promise<Client<Service>>;
  /** Calls with the certificate of a service of the mesh. */
  service<Service extends DescService>(
    service: Service,
    name: string,
    replica?: RunningRegistry,
  ): Promise<Client<Service>>;
  /** One more registry on the same database. */
  replica(overrides?: Partial<RegistryValues>): Promise<RunningRegistry>;
  close(): Promise<void>;
}

/** Whoever opens it closes it. */
export async function openTestRegistry(overrides: Partial<RegistryValues> = {}): Promise<TestRegistry> {
  await using opened = new AsyncDisposableStack();
  const dataDir = await mkdtemp(join(tmpdir(), "persona-registry-"));
  opened.defer(() => rm(dataDir, { recursive: true, force: true }));
  const database = await openTestDatabase();
  opened.defer(database.close);
  const lines: string[] = [];
  const log = createLogger("test-registry", "debug", { write: (line) => lines.push(line) });
  const start = async (more: Partial<RegistryValues> = {}) => {
    const { values } = loadConfig(REGISTRY_OPTIONS);
    const running = await startRegistry(
      {
        ...values,
        grpcPort: 0,
        managementPort: 0,
        drainSeconds: 2,
        logLevel: "debug",
        databaseUrl: database.url,
        ...overrides,
        ...more,
        dataDir,
      },
      log,
    );
    return running;
  };
  const running = await start();
  opened.defer(running.close);
  const callers = new Callers(dataDir, log);
  opened.use(callers);
  const resources = opened.move();
  return {
    address: running.server.address,
    dataDir,
    database,
    running,
    log: () => lines.map((line) => JSON.parse(line) as Record<string, unknown>),
    token: (claims) => callers.token(claims),
    client: async (service, claims, replica = running) =>
      callers.client(service, replica.server.address, { token: await callers.token(claims) }),
    service: (service, name, replica = running) => callers.client(service, replica.server.address, { name }),
    replica: async (more) => {
      const another = await start(more);
      resources.defer(another.close);
      return another;
    },
    close: () => resources.disposeAsync(),
  };
}

/** Clients and their certificates, closed together. */
class Callers implements Disposable {
  readonly #dataDir: string;
  readonly #log: Logger;
  readonly #sources = new Map<string, Promise<TlsSource>>();
  readonly #clients: Disposable[] = [];

  constructor(dataDir: string, log: Logger) {
    this.#dataDir = dataDir;
    this.#log = log;
  }

  async token(claims: Partial<DevTokenClaims> = {}): Promise<string> {
    const keys = await ensureDevKeys(this.#dataDir);
    return signDevToken(keys, { subject: "alice", tenant: "acme", roles: ["admin"], ...claims });
  }

  /** @param as - a token, or the name of a service whose certificate is presented */
  async client<Service extends DescService>(
    service: Service,
    address: string,
    as: { readonly token: string } | { readonly name: string },
  ): Promise<Client<Service>> {
    const name = "name" in as ? as.name : "test-client";
    const source = this.#sources.get(name) ?? openDevTls(this.#dataDir, name, this.#log);
    this.#sources.set(name, source);
    const client = createClient(service, address, await source, "token" in as ? { token: as.token } : {});
    this.#clients.push(client);
    return client;
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients) client[Symbol.dispose]();
    for (const source of this.#sources.values()) void source.then((opened) => opened.close());
  }
}
