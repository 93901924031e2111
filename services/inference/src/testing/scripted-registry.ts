import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Change,
  DistributionService,
  type FetchVersionsRequest,
  type ReportWorkerRequest,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "@persona-mesh/protocol/registry";
import {
  bindService,
  createLogger,
  loadConfig,
  type RunningServer,
  SERVICE_OPTIONS,
  type ServiceError,
  startServer,
} from "@persona-mesh/service";
import type { TestVersion } from "./governed-personas.ts";

/** One watch as the registry has it. */
export interface ScriptedWatch {
  readonly request: WatchRequest;
  send(...messages: MessageInitShape<typeof WatchResponseSchema>[]): void;
  /** End the stream, with an error unless told otherwise. */
  end(error?: ServiceError): void;
  readonly isOver: () => boolean;
}

/**
 * The other side of the worker's registry, which says exactly what a test wants said: a real server with the real contract,
 * the mesh's mutual TLS, and nothing behind it.
 */
export class ScriptedRegistry implements AsyncDisposable {
  readonly watches: ScriptedWatch[] = [];
  readonly reports: ReportWorkerRequest[] = [];
  readonly fetches: FetchVersionsRequest[] = [];
  /** By digest; what is not here the registry does not have. */
  readonly contents = new Map<string, Uint8Array>();
  /** Waited for before each answer to a fetch. */
  fetchGate: Promise<void> = Promise.resolve();
  #server: RunningServer | undefined;
  #port = 0;
  readonly #dataDir: string;

  /** @param dataDir - of the development authority */
  constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** The newest watch. */
  get watch(): ScriptedWatch {
    const watch = this.watches.at(-1);
    if (watch === undefined) throw new Error("nobody watches");
    return watch;
  }

  has(...versions: readonly TestVersion[]): void {
    for (const { digest, content } of versions) this.contents.set(digest, content);
  }

  /** At the first start on a free port, later on the same one. */
  async start(): Promise<void> {
    const { values } = loadConfig(SERVICE_OPTIONS);
    this.#server = await startServer({
      name: "vector-registry",
      config: { ...values, dataDir: this.#dataDir, devTls: true, grpcPort: this.#port, managementPort: 0 },
      log: createLogger("scripted-registry", "silent"),
      services: [
        bindService(DistributionService, {
          watch: (request, { signal }) => this.#watch(request, signal),
          fetchVersions: (request) => this.#fetch(request),
          reportWorker: async (request) => {
            this.reports.push(request);
            return {};
          },
          getDistribution: async () => ({}),
        }),
      ],
    });
    this.#port = this.#server.port;
  }

  /** Gone from one moment to the next. */
  async kill(): Promise<void> {
    await this.#server?.kill();
    this.#server = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  async *#watch(request: WatchRequest, signal: AbortSignal): AsyncGenerator<WatchResponse> {
    const waiting: WatchResponse[] = [];
    let wake = () => {};
    let over = false;
    let failure: ServiceError | undefined;
    this.watches.push({
      request,
      send: (...messages) => {
        waiting.push(...messages.map((message) => create(WatchResponseSchema, message)));
        wake();
      },
      end: (error) => {
        over = true;
        failure = error;
        wake();
      },
      isOver: () => over || signal.aborted,
    });
    signal.addEventListener("abort", () => wake());
    for (;;) {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) yield next;
      if (failure !== undefined) throw failure;
      if (over || signal.aborted) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }

  async *#fetch(request: FetchVersionsRequest) {
    this.fetches.push(request);
    await this.fetchGate;
    for (const key of request.versions) {
      const content = this.contents.get(key.digest);
      yield content === undefined ? { key } : { key, content };
    }
  }
}

export function snapshot(
  revision: bigint,
  changes: Change[],
  last = true,
): MessageInitShape<typeof WatchResponseSchema> {
  return { event: { case: "snapshot", value: { revision, changes, last } } };
}

export function changeSet(
  previousRevision: bigint,
  revision: bigint,
  changes: Change[],
): MessageInitShape<typeof WatchResponseSchema> {
  return { event: { case: "changes", value: { previousRevision, revision, changes } } };
}

export function bookmark(revision: bigint): MessageInitShape<typeof WatchResponseSchema> {
  return { event: { case: "bookmark", value: { revision } } };
}
