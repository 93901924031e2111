import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { DescService } from "@bufbuild/protobuf";
import { ServiceProcess } from "@persona-mesh/local";
import {
  type Client,
  createClient,
  createLogger,
  type DevTokenClaims,
  ensureDevKeys,
  openDevTls,
  signDevToken,
  type TlsSource,
} from "@persona-mesh/service";
import { bootstrapDatabase } from "../../../services/vector-registry/src/database/bootstrap.ts";
import { type EmbeddedPostgres, openEmbedded } from "../../../services/vector-registry/src/database/embedded.ts";
import { FlakyProxy } from "./flaky-proxy.ts";

const MAIN = fileURLToPath(new URL("../../../services/vector-registry/src/main.ts", import.meta.url));
const SOCKET = ".s.PGSQL.5432";

/** One replica, in a process that is killed and started again, behind a network that breaks. */
export interface Replica {
  readonly index: number;
  /** Of its clients; its own address changes when it starts again. */
  readonly proxy: FlakyProxy;
  process: ServiceProcess;
}

/** Two registries on one PostgreSQL, every connection through a proxy, and callers with rights of any kind. */
export class Stage implements AsyncDisposable {
  readonly dataDir: string;
  readonly replicas: Replica[] = [];
  readonly #resources = new AsyncDisposableStack();
  readonly #sources = new Map<string, Promise<TlsSource>>();
  readonly #postgresFolder: string;
  readonly #proxyFolder: string;
  #postgres: EmbeddedPostgres | undefined;
  #databaseUrl = "";
  /** Between the replicas and PostgreSQL. */
  databaseProxy!: FlakyProxy;

  /** @param postgresFolder - where PostgreSQL keeps its data; a folder of the stage's own where unset */
  static async open(postgresFolder?: string): Promise<Stage> {
    const dataDir = await mkdtemp(join(tmpdir(), "persona-robustness-"));
    const stage = new Stage(
      dataDir,
      postgresFolder ?? join(dataDir, "postgres"),
      await mkdtemp(join(tmpdir(), "pmr-")),
    );
    try {
      await stage.#start();
      return stage;
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(dataDir: string, postgresFolder: string, proxyFolder: string) {
    this.dataDir = dataDir;
    this.#postgresFolder = postgresFolder;
    this.#proxyFolder = proxyFolder;
    this.#resources.defer(() => rm(dataDir, { recursive: true, force: true }));
    this.#resources.defer(() => rm(proxyFolder, { recursive: true, force: true }));
  }

  async #start(): Promise<void> {
    await this.startPostgres();
    this.#resources.defer(async () => this.#postgres?.close());
    this.databaseProxy = await FlakyProxy.open({ path: join(this.#proxyFolder, SOCKET) }, () => this.#socket());
    this.#resources.use(this.databaseProxy);
    // Keys and authority are there before two processes want to make them.
    await ensureDevKeys(this.dataDir);
    for (const index of [0, 1]) {
      const process = await this.#startReplica(index);
      const proxy = await FlakyProxy.open({ host: "127.0.0.1", port: 0 }, () => endpointOf(this.replicas[index]));
      this.#resources.use(proxy);
      const replica = { index, proxy, process };
      this.replicas.push(replica);
      this.#resources.defer(async () => {
        await replica.process.kill();
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const source of this.#sources.values()) (await source).close();
    await this.#resources.disposeAsync();
  }

  /** A database URL that leads to PostgreSQL itself, past the proxy, as its superuser. */
  get ownerUrl(): string {
    if (this.#postgres === undefined) throw new Error("PostgreSQL is not running");
    return this.#postgres.url("persona");
  }

  /** Signed roots, outside the database: each replica keeps its own. */
  rootsFile(index: number): string {
    return join(this.dataDir, `audit-roots-${index}.jsonl`);
  }

  async startPostgres(): Promise<void> {
    this.#postgres = await openEmbedded({ folder: this.#postgresFolder });
    const { url } = await bootstrapDatabase(this.#postgres);
    const proxied = new URL(url);
    proxied.searchParams.set("host", this.#proxyFolder);
    this.#databaseUrl = proxied.href;
  }

  /** End PostgreSQL as a power cut of its processes would, and start it again. */
  async killPostgres(): Promise<void> {
    const running = this.#postgres;
    if (running === undefined) throw new Error("PostgreSQL is not running");
    process.kill(running.pid, "SIGKILL");
    await running.ended;
    await running.close();
    await this.startPostgres();
  }

  async killReplica(index: number): Promise<void> {
    const replica = this.replicas[index] as Replica;
    await replica.process.kill();
    replica.process = await this.#startReplica(index);
  }

  async token(claims: Partial<DevTokenClaims>): Promise<string> {
    return signDevToken(await ensureDevKeys(this.dataDir), {
      subject: "alice",
      tenant: "platform",
      roles: ["admin"],
      ...claims,
    });
  }

  /** A client of one replica, through its proxy. @param as - a token's claims, or the name of a service */
  async client<Service extends DescService>(
    service: Service,
    replica: Replica,
    as: Partial<DevTokenClaims> | { readonly service: string },
  ): Promise<Client<Service>> {
    const name = "service" in as ? as.service : "robustness";
    const source = this.#sources.get(name) ?? openDevTls(this.dataDir, name, createLogger("robustness", "silent"));
    this.#sources.set(name, source);
    const token = "service" in as ? {} : { token: await this.token(as) };
    const client = createClient(service, `127.0.0.1:${replica.proxy.port}`, await source, {
      timeoutMs: CALL_TIMEOUT,
      ...token,
    });
    this.#resources.use(client);
    return client;
  }

  #socket() {
    if (this.#postgres === undefined) throw new Error("PostgreSQL is not running");
    const host = new URL(this.#postgres.url()).searchParams.get("host");
    return { path: join(host ?? "", SOCKET) };
  }

  /** As whatever runs it in production does: one that gives up, because PostgreSQL is away, is started again. */
  async #startReplica(index: number): Promise<ServiceProcess> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#tryReplica(index);
      } catch (error) {
        if (tries === MAX_STARTS) throw error;
      }
    }
  }

  async #tryReplica(index: number): Promise<ServiceProcess> {
    return ServiceProcess.start({
      name: `vector-registry-${index}`,
      main: MAIN,
      flags: {
        "data-dir": this.dataDir,
        "grpc-port": "0",
        "management-port": "0",
        "dev-tls": "true",
        "audit-roots-file": this.rootsFile(index),
        "database-url": this.#databaseUrl,
      },
    });
  }
}

/** A replica that does not come up in so many tries does not come up. */
const MAX_STARTS = 5;

/** A half-open connection must not hold a client for long. Milliseconds. */
const CALL_TIMEOUT = 3_000;

function endpointOf(replica: Replica | undefined) {
  if (replica === undefined) throw new Error("the replica is not running");
  const [host = "", port = ""] = replica.process.address.split(":");
  return { host, port: Number(port) };
}
