import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { extractVector, InferenceClient, type Reply } from "@persona-mesh/client";
import { importCheckpoint } from "@persona-mesh/model";
import { ensureDevKeys, signDevToken } from "@persona-mesh/service";
import { coherenceBaseline } from "@persona-mesh/steering";
import { type Desk, readDesk, STARTER } from "./desk.ts";
import { meanCoherence, onTopicShare, scoreUnsteered, toneShare } from "./judge.ts";
import { liveSwitch } from "./live-switch.ts";
import { randomPersona } from "./random-directions.ts";
import { type Persona, request, runAll } from "./replies.ts";
import { sameBits } from "./same-bits.ts";
import { type LearnedPersona, personaName, writeTenant } from "./tenants.ts";
import { WorkerProcess } from "./worker-process.ts";

export interface PersonaFigures {
  readonly name: string;
  readonly alpha: number;
  readonly layers: readonly number[];
  readonly toneShare: number;
  readonly baselineToneShare: number;
  readonly systemLineToneShare: number;
  readonly randomToneShareMax: number;
  readonly onTopicShare: number;
  readonly baselineOnTopicShare: number;
  readonly coherence: number;
  readonly baselineCoherence: number;
}

export interface DemoFigures {
  readonly personas: readonly PersonaFigures[];
  readonly unsteeredRowIdentical: boolean;
  readonly switchMicros: number;
  readonly tokensPerSecond: number;
}

export interface StoryOptions {
  /** Replies per condition. */
  readonly replies: number;
  readonly signal: AbortSignal;
  /** A new step of the story. */
  readonly onStep: (text: string) => void;
  /** Within a step. */
  readonly onProgress: (done: number, total: number) => void;
  /** What a step showed. */
  readonly onShown: (text: string) => void;
}

/** Who wears what. */
const CAST = [
  { tenant: "acme", tone: "cheerful" },
  { tenant: "globex", tone: "gloomy" },
] as const;

/** Norm-matched random directions per persona. */
const RANDOM_DIRECTIONS = 20;

const UNSTEERED: Persona = { selector: { case: "unsteered", value: {} } };

/** The whole demo: import, serve, learn, serve two tenants at once, measure, switch live. */
export async function tellStory(options: StoryOptions): Promise<DemoFigures> {
  const { onStep, onShown, signal } = options;
  await using resources = new AsyncDisposableStack();
  const desk = readDesk();
  const home = await mkdtemp(join(tmpdir(), "persona-demo-"));
  resources.defer(() => rm(home, { recursive: true, force: true }));
  const personasDir = join(home, "personas");

  onStep("Import the trained checkpoint models/starter");
  const { manifest, directory } = await importCheckpoint(fileURLToPath(STARTER), join(home, "model"), { signal });
  const { layers, hidden, contextTokens } = manifest.spec;
  onShown(
    `${layers} layers of ${hidden}, context ${contextTokens} tokens, model ${manifest.modelChecksum.slice(0, 12)}`,
  );

  onStep("Start a worker that serves it over gRPC");
  const worker = resources.use(
    await WorkerProcess.start({ model: directory, "data-dir": home, "personas-dir": personasDir }),
  );
  onShown(`worker on ${worker.address}`);
  const keys = await ensureDevKeys(home);
  const connect = async (tenant: string, role: "operator" | "service") => {
    const token = await signDevToken(keys, { subject: "demo", tenant, roles: [role] });
    return resources.use(new InferenceClient({ address: worker.address, token }));
  };
  const calibrator = await connect("platform", "service");

  const learned = new Map<string, LearnedPersona>();
  for (const { tenant, tone } of CAST) {
    onStep(`Learn "${tone}" for ${tenant} from ${desk.pairs[tone]?.length} contrastive pairs`);
    learned.set(tone, await learn(calibrator, desk, tone, options));
    const { vector, alpha } = learned.get(tone) as LearnedPersona;
    const best = Math.min(...vector.extraction.layers.map(({ quality }) => quality.auc));
    onShown(
      `layers ${vector.version.manifest.layers.join(", ")}, alpha ${alpha}, held-out AUC ${best.toFixed(3)}, version ${vector.digest.slice(0, 12)}`,
    );
  }

  onStep("Give each tenant its persona");
  const clients = new Map<string, InferenceClient>();
  for (const { tenant, tone } of CAST) {
    const persona = learned.get(tone) as LearnedPersona;
    await writeTenant(personasDir, tenant, [persona], tone);
    const client = await connect(tenant, "operator");
    clients.set(tenant, client);
    await untilLoaded(client, personaName(tenant, tone), signal);
    onShown(`${personaName(tenant, tone)} is in force and active`);
  }

  onStep("Serve both tenants in one batch, beside an unsteered stream");
  const unsteeredRowIdentical = await serveTogether(desk, clients, calibrator, options);

  onStep(`Measure the unsteered model: ${options.replies} replies to held-out prompts`);
  const numbered = Array.from({ length: options.replies }, (_, i) => desk.prompts[i % desk.prompts.length]?.text ?? "");
  const ask = (client: InferenceClient, persona: Persona, system?: string) =>
    runAll(
      client,
      numbered.map((prompt, seed) => request(prompt, { persona, seed, ...(system === undefined ? {} : { system }) })),
      { signal, ...progress(options, options.replies) },
    );
  const plain = await ask(calibrator, UNSTEERED);
  const plainScored = await scoreUnsteered(calibrator, desk, plain.replies, signal);
  const baseline = coherenceBaseline(plainScored);
  const baselineOnTopicShare = onTopicShare(desk, plain.replies);
  const baselineCoherence = meanCoherence(plainScored, baseline);
  onShown(`on topic ${percent(baselineOnTopicShare)}, coherence ${baselineCoherence.toFixed(2)}`);

  const personas: PersonaFigures[] = [];
  const rates = [plain.tokensPerSecond];
  for (const { tenant, tone } of CAST) {
    const persona = learned.get(tone) as LearnedPersona;
    const { layers } = persona.vector.version.manifest;
    const baselineToneShare = toneShare(desk, plain.replies, tone);

    onStep(`Measure "${tone}": the persona, the system line, ${RANDOM_DIRECTIONS} random directions`);
    const client = clients.get(tenant) as InferenceClient;
    const steered = await ask(client, { selector: { case: "name", value: personaName(tenant, tone) } });
    rates.push(steered.tokensPerSecond);
    const told = await ask(client, UNSTEERED, desk.systemLines[tone]);
    const randomShares: number[] = [];
    for (let seed = 1; seed <= RANDOM_DIRECTIONS; seed++) {
      const random = await ask(calibrator, randomPersona(persona.vector.version, persona.alpha, seed));
      randomShares.push(toneShare(desk, random.replies, tone));
    }
    const scored = await scoreUnsteered(calibrator, desk, steered.replies, signal);
    personas.push({
      name: personaName(tenant, tone),
      alpha: persona.alpha,
      layers,
      toneShare: toneShare(desk, steered.replies, tone),
      baselineToneShare,
      systemLineToneShare: toneShare(desk, told.replies, tone),
      randomToneShareMax: Math.max(...randomShares),
      onTopicShare: onTopicShare(desk, steered.replies),
      baselineOnTopicShare,
      coherence: meanCoherence(scored, baseline),
      baselineCoherence,
    });
    const figures = personas.at(-1) as PersonaFigures;
    onShown(
      `tone share ${percent(figures.toneShare)} (unsteered ${percent(baselineToneShare)}, system line ${percent(figures.systemLineToneShare)})`,
    );
  }

  onStep("Switch a tenant's active persona while its stream runs");
  const switchMicros = await liveSwitch({
    client: clients.get("acme") as InferenceClient,
    personasDir,
    tenant: "acme",
    personas: [...learned.values()],
    signal,
    onShown,
  });

  onStep("Stop the worker");
  const code = await worker.stop();
  if (code !== 0) throw new Error(`the worker ended with code ${code}`);
  onShown("drained and ended");
  return { personas, unsteeredRowIdentical, switchMicros, tokensPerSecond: median(rates) };
}

async function learn(
  client: InferenceClient,
  desk: Desk,
  tone: string,
  { signal, onProgress }: StoryOptions,
): Promise<LearnedPersona> {
  const choice = desk.recommended[tone];
  const pairs = desk.pairs[tone];
  if (choice === undefined || pairs === undefined) throw new Error(`the desk has no tone "${tone}"`);
  const vector = await extractVector(
    client,
    { name: tone, pairs, baseline: desk.baseline, layers: choice.layers, createdBy: "demo", signal },
    (event) => {
      if (event.kind === "capturing") onProgress(event.done, event.total);
    },
  );
  return { tone, vector, alpha: choice.alpha, mode: choice.mode };
}

/** @returns whether the unsteered stream was bit for bit what it is alone */
async function serveTogether(
  desk: Desk,
  clients: ReadonlyMap<string, InferenceClient>,
  plainClient: InferenceClient,
  { signal, onShown }: StoryOptions,
): Promise<boolean> {
  const prompt = desk.prompts[0]?.text ?? "";
  const plain = request(prompt, { persona: UNSTEERED, seed: 7 });
  const alone = await plainClient.generateText(plain, { signal });
  const streams = CAST.map(({ tenant, tone }) => {
    const persona: Persona = { selector: { case: "name", value: personaName(tenant, tone) } };
    return (clients.get(tenant) as InferenceClient).generateText(request(prompt, { persona, seed: 7 }), { signal });
  });
  const [beside, ...worn] = (await Promise.all([plainClient.generateText(plain, { signal }), ...streams])) as [
    Reply,
    ...Reply[],
  ];
  onShown(`"${prompt}"`);
  onShown(`unsteered: ${beside.text.trim()}`);
  CAST.forEach(({ tenant, tone }, index) => {
    onShown(`${tenant}, ${tone}: ${worn[index]?.text.trim()}`);
  });
  const identical = sameBits(alone, beside);
  onShown(`the unsteered row ${identical ? "is bit-identical to" : "DIFFERS FROM"} the same request alone`);
  return identical;
}

/** The worker looks at its files by itself: wait until it has. */
async function untilLoaded(client: InferenceClient, name: string, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    for await (const { proof, active } of client.listLoadedPersonas({ signal })) {
      if (proof?.name === name && active) return;
    }
    if (Date.now() > deadline) throw new Error(`the worker did not take on ${name}; its log says why`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function progress({ onProgress }: StoryOptions, total: number): { onReply: () => void } {
  let done = 0;
  return { onReply: () => onProgress(++done, total) };
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] as number;
}
