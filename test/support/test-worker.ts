import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceClient, type InferenceClientOptions } from "@persona-mesh/client";
import {
  createLogger,
  type DevTokenClaims,
  ensureDevKeys,
  loadConfig,
  type RoleName,
  signDevToken,
} from "@persona-mesh/service";
import { WORKER_OPTIONS, type WorkerValues } from "../../services/inference/src/options.ts";
import { type RunningWorker, startWorker } from "../../services/inference/src/start-worker.ts";
import { starterPackage } from "./starter-package.ts";

/** Who calls. @default an operator of acme */
export interface TestCaller {
  readonly tenant?: string;
  readonly roles?: readonly RoleName[];
}

/** A whole worker in this process, on free ports, with files of its own: nothing of it is replaced for the test. */
export interface TestWorker {
  readonly address: string;
  readonly port: number;
  readonly managementPort: number;
  readonly dataDir: string;
  readonly personasDir: string;
  /** Lines of the log as they were written, so far. */
  readonly lines: readonly string[];
  /** Its engine and its table, for their figures. */
  readonly running: RunningWorker;
  log(): Record<string, unknown>[];
  token(caller?: TestCaller & Partial<DevTokenClaims>): Promise<string>;
  /** Closed with the worker. */
  client(caller?: TestCaller, options?: Partial<InferenceClientOptions>): Promise<InferenceClient>;
  close(): Promise<void>;
}

/** Whoever opens it closes it. */
export async function openTestWorker(overrides: Partial<WorkerValues> = {}): Promise<TestWorker> {
  const folder = await mkdtemp(join(tmpdir(), "persona-e2e-"));
  const dataDir = join(folder, "data");
  const personasDir = join(folder, "personas");
  await mkdir(personasDir);
  const { values } = loadConfig(WORKER_OPTIONS);
  const lines: string[] = [];
  const running = await startWorker(
    {
      ...values,
      grpcPort: 0,
      managementPort: 0,
      slots: 8,
      // Threads that share an operator wait for each other: on a busy machine, longer than they work.
      threads: 1,
      drainSeconds: 5,
      // Most tests are about something else and read more easily without certificates.
      devTls: false,
      logLevel: "debug",
      dataDir,
      personasDir,
      ...overrides,
      model: overrides.model ?? (await starterPackage(join(folder, "model"))),
    },
    createLogger("test-worker", "debug", { write: (line) => lines.push(line) }),
  );
  const { address, port, managementPort } = running.server;
  const clients: InferenceClient[] = [];
  const token: TestWorker["token"] = async (caller = {}) =>
    signDevToken(await ensureDevKeys(dataDir), { subject: "tester", tenant: "acme", roles: ["operator"], ...caller });
  return {
    address,
    port,
    managementPort,
    dataDir,
    personasDir,
    lines,
    running,
    log: () => lines.map((line) => JSON.parse(line)),
    token,
    client: async (caller, options) => {
      const client = new InferenceClient({ address, token: await token(caller), ...options });
      clients.push(client);
      return client;
    },
    close: async () => {
      for (const client of clients) client.close();
      await running.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
