import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { InferenceClient } from "@persona-mesh/client";
import { LocalMesh } from "@persona-mesh/local";
import { importCheckpoint } from "@persona-mesh/model";
import {
  ApprovalDecision,
  ApprovalService,
  ModelService,
  PersonaService,
  TenantService,
  VectorService,
} from "@persona-mesh/protocol/registry";
import type { Client } from "@persona-mesh/service";
import { atMost, context, type Figure } from "../figure.ts";
import { Callers } from "../mesh/callers.ts";
import { DiskFlush } from "../mesh/disk-flush.ts";
import { Latencies } from "../mesh/latencies.ts";
import { randomVersion } from "../mesh/random-version.ts";
import type { Bench, BenchContext } from "./bench.ts";

const STARTER = fileURLToPath(new URL("../../../models/starter", import.meta.url));
const WORKERS = 3;
const PERSONAS = ["calm", "warm"] as const;
const TENANT = "acme";
const GOAL_P99 = 50;

const PROMPT = { prompt: { input: { case: "text" as const, value: "The parcel" } } };

/** Changes before those that count: connections and compiled code are then as they are in a mesh that has been up for a minute. */
const WARM_UP = 50;

/** The share of changes that are also measured with busy workers: they say more of the cores than of the mesh. */
const BUSY_SHARE = 5;

/** Longest wait for one change. Milliseconds. */
const LOST = 30_000;

export const propagationBench: Bench = {
  name: "propagation",
  description: "change of the active persona at the registry to the first token served with it on each of 3 workers",
  options: { changes: { description: "changes of the active persona", default: "500" } },
  run: measure,
};

async function measure({ directory, onProgress, options }: BenchContext): Promise<Figure[]> {
  const changes = Number(options["changes"]);
  await using resources = new AsyncDisposableStack();
  onProgress("importing the starter model, starting a registry and three workers");
  const model = await importCheckpoint(STARTER, join(directory, "model"));
  const mesh = resources.use(
    await LocalMesh.start({
      dataDir: directory,
      model: model.directory,
      workers: WORKERS,
      // Three workers share this machine's cores: none may spin on them.
      workerFlags: { threads: "1", spinning: "false", slots: "4" },
    }),
  );
  const callers = resources.use(await Callers.open(directory));
  const operator = await govern(mesh, callers);
  const clients = await Promise.all(
    mesh.workers.map(({ address }) => callers.worker(address, { tenant: TENANT, roles: ["operator"] })),
  );
  const flush = resources.use(await DiskFlush.open(directory));
  onProgress(`${changes} changes, workers asked for a token once the change is acknowledged`);
  const calm = await switches(
    flush,
    operator,
    changes,
    onProgress,
    clients.map((client) => new Asker(client)),
  );
  const busyChanges = Math.ceil(changes / BUSY_SHARE);
  onProgress(`${busyChanges} changes, while every worker decodes all the time`);
  await using followers = new AsyncDisposableStack();
  const busy = await switches(
    flush,
    operator,
    busyChanges,
    onProgress,
    clients.map((client) => followers.use(new Follower(client))),
  );
  return [
    context("change to first token on all three workers, p50", calm.whole.at(50), "ms"),
    atMost("change to first token on all three workers, p99", calm.whole.at(99), "ms", GOAL_P99),
    context("the same on one worker, p50", calm.single.at(50), "ms"),
    context("the same on one worker, p99", calm.single.at(99), "ms"),
    context("the call at the registry, p50", calm.call.at(50), "ms"),
    context("the call at the registry, p99", calm.call.at(99), "ms"),
    context("a flush of this disk between changes, p50", calm.flush.at(50), "ms"),
    context("a flush of this disk between changes, p99", calm.flush.at(99), "ms"),
    context("changes", calm.whole.count, ""),
    context("the same with all workers decoding all the time on these cores, p50", busy.whole.at(50), "ms"),
    context("the same with all workers decoding all the time on these cores, p99", busy.whole.at(99), "ms"),
    context("the call at the registry meanwhile, p50", busy.call.at(50), "ms"),
  ];
}

/** Sees a worker's tokens. */
interface Watcher {
  /** When the first token was served with a persona, by its name. Asked for before the change. */
  tokenWith(name: string, changed: Promise<unknown>): Promise<number>;
}

interface Times {
  /** To the last of the workers. */
  readonly whole: Latencies;
  readonly single: Latencies;
  readonly call: Latencies;
  /** Of the disk that the registry's database is on, between the changes: every commit waits for one. */
  readonly flush: Latencies;
}

/** Change the active persona again and again. All times from the moment before the call. */
async function switches(
  flush: DiskFlush,
  operator: Client<typeof PersonaService>,
  changes: number,
  onProgress: (text: string) => void,
  workers: readonly Watcher[],
): Promise<Times> {
  let times = newTimes();
  for (let change = 0; change < WARM_UP + changes; change++) {
    if (change === WARM_UP) times = newTimes();
    else if (change % 50 === 0) onProgress(`${change}/${WARM_UP + changes} changes`);
    const name = `tenants/${TENANT}/personas/${PERSONAS[change % PERSONAS.length]}`;
    const started = performance.now();
    const changed = operator.activatePersona({ name });
    const seen = workers.map((worker) => worker.tokenWith(name, changed).then((at) => times.single.add(at - started)));
    await changed;
    times.call.add(performance.now() - started);
    await Promise.all(seen);
    times.whole.add(performance.now() - started);
    times.flush.add(await flush.once());
    // Changes come at any moment of a step.
    await new Promise((resolve) => setTimeout(resolve, 5 + ((change * 7) % 20)));
  }
  return times;
}

function newTimes(): Times {
  return { whole: new Latencies(), single: new Latencies(), call: new Latencies(), flush: new Latencies() };
}

/** A tenant with two approved personas. @returns who switches them */
async function govern(mesh: LocalMesh, callers: Callers) {
  const { address } = mesh.registry;
  const [worker] = mesh.workers as [(typeof mesh.workers)[number]];
  const model = await (await callers.worker(worker.address, { roles: ["viewer"] })).getModel();
  const tenants = await callers.registry(TenantService, address);
  await tenants.createTenant({ tenantId: TENANT });
  const models = await callers.registry(ModelService, address);
  const { modelChecksum, architecture, layers, hiddenSize, vocabularySize, tokenizerDigest } = model;
  await models
    .createModel({
      modelId: "starter",
      model: { modelChecksum, architecture, layers, hiddenSize, vocabularySize, tokenizerDigest },
    })
    // The worker has registered it.
    .catch(() => {});
  const parent = `tenants/${TENANT}`;
  const vectors = await callers.registry(VectorService, address, { tenant: TENANT });
  const approvals = await callers.registry(ApprovalService, address, {
    tenant: TENANT,
    subject: "second",
    roles: ["approver"],
  });
  const personas = await callers.registry(PersonaService, address, { tenant: TENANT });
  for (const [seed, persona] of PERSONAS.entries()) {
    await vectors.createVector({ parent, vectorId: persona });
    const shape = {
      modelChecksum,
      graphDigest: model.graphDigest,
      hiddenSize,
      layerCount: layers,
      layers: [layers >> 1],
    };
    const { version } = await vectors.publishVersion({
      parent: `${parent}/vectors/${persona}`,
      content: randomVersion(shape, persona, seed + 1),
      evaluation: { alphaMinHundredths: 0, alphaMaxHundredths: 10 },
    });
    const name = version?.name ?? "";
    await approvals.createApproval({ parent, version: name, decision: ApprovalDecision.APPROVE });
    await personas.createPersona({
      parent,
      personaId: persona,
      persona: { spec: { terms: [{ vector: name, alphaHundredths: 1 }] } },
    });
  }
  return personas;
}

/** Asks for single tokens from the moment that the change is acknowledged, as the next caller would. */
class Asker implements Watcher {
  readonly #client: InferenceClient;

  constructor(client: InferenceClient) {
    this.#client = client;
  }

  async tokenWith(name: string, changed: Promise<unknown>): Promise<number> {
    await changed;
    for (const end = performance.now() + LOST; performance.now() < end; ) {
      const { started } = await this.#client.generateText({ ...PROMPT, maxTokens: 1 });
      if (started.persona?.name === name) return performance.now();
    }
    throw new Error(`no token was served as ${name}`);
  }
}

/** A stream that follows the active persona, taken up again whenever it ends. */
class Follower implements Watcher, AsyncDisposable {
  readonly #client: InferenceClient;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** What the next token is served with. */
  #worn = "";
  #waiting: { readonly name: string; readonly resolve: (at: number) => void } | undefined;

  constructor(client: InferenceClient) {
    this.#client = client;
    this.#running = this.#run();
  }

  tokenWith(name: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no token was served as ${name}`)), LOST);
      this.#waiting = {
        name,
        resolve: (at) => {
          clearTimeout(timer);
          resolve(at);
        },
      };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        const stream = this.#client.generate(
          {
            ...PROMPT,
            persona: { selector: { case: "active", value: { follow: true } } },
            maxTokens: 1_000_000,
            ignoreEos: true,
          },
          { signal },
        );
        for await (const event of stream) {
          if (event.case === "started" || event.case === "personaSwitched")
            this.#worn = event.value.persona?.name ?? "";
          if (event.case === "tokens" && this.#worn === this.#waiting?.name) {
            this.#waiting.resolve(performance.now());
            this.#waiting = undefined;
          }
        }
      } catch (error) {
        if (!signal.aborted) throw error;
      }
    }
  }
}
