import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { extractVector, InferenceClient, type Reply } from "@persona-mesh/client";
import { LocalMesh } from "@persona-mesh/local";
import { importCheckpoint } from "@persona-mesh/model";
import { createLogger, ensureDevKeys, openDevTls, signDevToken } from "@persona-mesh/service";
import { type CoherenceBaseline, canonicalJson, coherenceBaseline } from "@persona-mesh/steering";
import { type Desk, readDesk, STARTER } from "./desk.ts";
import { Governance, type LearnedPersona } from "./governance.ts";
import { meanCoherence, onTopicShare, scoreUnsteered, toneShare } from "./judge.ts";
import { liveSwitch } from "./live-switch.ts";
import { randomPersona, trialPersona } from "./random-directions.ts";
import { type Persona, request, runAll } from "./replies.ts";
import { sameBits } from "./same-bits.ts";

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
  readonly propagationMillisP99: number;
  readonly auditVerified: boolean;
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

/** Replies per persona that are judged before anyone is asked to approve it. */
const TRIAL_REPLIES = 24;

const UNSTEERED: Persona = { selector: { case: "unsteered", value: {} } };

/**
 * The whole demo: import, start the mesh, learn, publish, approve, activate, serve two tenants at once, measure, switch live,
 * roll back, verify the audit.
 */
export async function tellStory(options: StoryOptions): Promise<DemoFigures> {
  const { onStep, onShown, signal } = options;
  await using resources = new AsyncDisposableStack();
  const desk = readDesk();
  const home = await mkdtemp(join(tmpdir(), "persona-demo-"));
  resources.defer(() => rm(home, { recursive: true, force: true }));

  onStep("Import the trained checkpoint models/starter");
  const { manifest, directory } = await importCheckpoint(fileURLToPath(STARTER), join(home, "model"), { signal });
  const { layers, hidden, contextTokens } = manifest.spec;
  onShown(
    `${layers} layers of ${hidden}, context ${contextTokens} tokens, model ${manifest.modelChecksum.slice(0, 12)}`,
  );

  onStep("Start the mesh: a registry with its PostgreSQL, and a worker that follows it");
  const mesh = resources.use(await LocalMesh.start({ dataDir: home, model: directory }));
  const [worker] = mesh.workers as [(typeof mesh.workers)[number]];
  onShown(`registry on ${mesh.registry.address}, worker on ${worker.address}, mutual TLS between them`);
  const keys = await ensureDevKeys(home);
  const tls = await openDevTls(home, "demo", createLogger("demo", "silent"));
  resources.defer(() => tls.close());
  const connect = async (tenant: string, role: "operator" | "service") => {
    const token = await signDevToken(keys, { subject: "demo", tenant, roles: [role] });
    const { ca } = tls.current;
    return resources.use(new InferenceClient({ address: worker.address, token, tls: ca === undefined ? {} : { ca } }));
  };
  const calibrator = await connect("platform", "service");

  onStep(`Measure the unsteered model: ${options.replies} replies to held-out prompts`);
  const numbered = Array.from({ length: options.replies }, (_, i) => desk.prompts[i % desk.prompts.length]?.text ?? "");
  const ask = (client: InferenceClient, persona: Persona, system?: string, prompts = numbered) =>
    runAll(
      client,
      prompts.map((prompt, seed) => request(prompt, { persona, seed, ...(system === undefined ? {} : { system }) })),
      { signal, ...progress(options, prompts.length) },
    );
  const plain = await ask(calibrator, UNSTEERED);
  const plainScored = await scoreUnsteered(calibrator, desk, plain.replies, signal);
  const baseline = coherenceBaseline(plainScored);
  const baselineOnTopicShare = onTopicShare(desk, plain.replies);
  const baselineCoherence = meanCoherence(plainScored, baseline);
  onShown(`on topic ${percent(baselineOnTopicShare)}, coherence ${baselineCoherence.toFixed(2)}`);

  const learned = new Map<string, LearnedPersona>();
  for (const { tone } of CAST) {
    onStep(`Learn "${tone}" from ${desk.pairs[tone]?.length} contrastive pairs, and try it`);
    const persona = await learn(calibrator, desk, tone, options);
    const { version, digest } = persona.vector;
    const trial = await ask(
      calibrator,
      trialPersona(version, persona.alpha, persona.mode),
      undefined,
      numbered.slice(0, TRIAL_REPLIES),
    );
    const figures = await trialFigures(calibrator, desk, tone, { replies: trial.replies, baseline, signal });
    learned.set(tone, { ...persona, figures });
    const best = Math.min(...persona.vector.extraction.layers.map(({ quality }) => quality.auc));
    onShown(
      `layers ${version.manifest.layers.join(", ")}, alpha ${persona.alpha}, held-out AUC ${best.toFixed(3)}, tone share ${percent(figures.toneShare)}, version ${digest.slice(0, 12)}`,
    );
  }

  const clients = new Map<string, InferenceClient>();
  const tenants = new Map<string, Governance>();
  for (const { tenant, tone } of CAST) {
    onStep(`Publish "${tone}" for ${tenant}, have a second person approve it, activate it`);
    const governance = resources.use(
      new Governance(
        { address: mesh.registry.address, tls, keys, rootsFile: join(home, "audit-roots.jsonl"), signal },
        tenant,
      ),
    );
    tenants.set(tenant, governance);
    await governance.create((learned.get(tone) as LearnedPersona).vector.model);
    const persona = learned.get(tone) as LearnedPersona;
    const version = await governance.publish(persona);
    onShown(`alice published ${version.split("/").at(-1)?.slice(0, 12)}`);
    onShown(`into production before approval: refused, ${await governance.setProductionTooEarly(tone, version)}`);
    onShown(`alice approves her own: refused, ${await governance.approveAsSubmitter(version)}`);
    await putIntoProduction(governance, persona, version);
    onShown("bob approved it; production points at it");
    await governance.followed(await governance.activate(tone));
    clients.set(tenant, await connect(tenant, "operator"));
    onShown(`${personaName(tenant, tone)} is active, and the worker serves it`);
  }

  onStep("Serve both tenants in one batch, beside an unsteered stream");
  const unsteeredRowIdentical = await serveTogether(desk, clients, calibrator, options);

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

  onStep("Switch a tenant's active persona at the registry while its stream runs");
  const acme = tenants.get("acme") as Governance;
  const [first, second] = CAST.map(({ tone }) => learned.get(tone) as LearnedPersona) as [
    LearnedPersona,
    LearnedPersona,
  ];
  await putIntoProduction(acme, second, await acme.publish(second));
  let next = second;
  const { switchMicros, propagationMillisP99 } = await liveSwitch({
    client: clients.get("acme") as InferenceClient,
    activateNext: async () => {
      const { tone } = next;
      next = next === second ? first : second;
      await acme.activate(tone);
    },
    signal,
    onShown,
  });
  onShown(`p99 ${propagationMillisP99.toFixed(0)} ms from asking the registry to the stream that has changed`);

  onStep("Put a new version into production, and roll it back");
  await rollBack(
    {
      acme,
      client: clients.get("acme") as InferenceClient,
      calibrator,
      desk,
      tone: first.tone,
      figures: first.figures,
    },
    options,
  );

  onStep("Verify the audit of both tenants, against roots that are kept outside the database");
  for (const { tenant } of CAST) {
    onShown(`${tenant}: ${await (tenants.get(tenant) as Governance).verifyAudit()} entries, unbroken and signed`);
  }

  onStep("Stop the mesh");
  const codes = await mesh.stop();
  if (codes.some((code) => code !== 0)) throw new Error(`services ended with ${codes.join(", ")}`);
  onShown("drained and ended");
  return {
    personas,
    unsteeredRowIdentical,
    switchMicros,
    tokensPerSecond: median(rates),
    propagationMillisP99,
    // Anything else has ended the demo with what is wrong.
    auditVerified: true,
  };
}

/** Approve a version, point production at it, and let a persona follow that. */
async function putIntoProduction(governance: Governance, persona: LearnedPersona, version: string): Promise<void> {
  await governance.approve(version);
  await governance.setProduction(persona.tone, version);
  await governance.createPersona(persona);
}

/** What a version does that nobody has approved yet. */
async function trialFigures(
  client: InferenceClient,
  desk: Desk,
  tone: string,
  { replies, baseline, signal }: { replies: readonly Reply[]; baseline: CoherenceBaseline; signal: AbortSignal },
): Promise<{ readonly toneShare: number; readonly onTopicShare: number; readonly coherence: number }> {
  const scored = await scoreUnsteered(client, desk, replies, signal);
  return {
    toneShare: toneShare(desk, replies, tone),
    onTopicShare: onTopicShare(desk, replies),
    coherence: meanCoherence(scored, baseline),
  };
}

interface RollBackStage {
  readonly acme: Governance;
  readonly client: InferenceClient;
  readonly calibrator: InferenceClient;
  readonly desk: Desk;
  readonly tone: string;
  readonly figures: LearnedPersona["figures"];
}

/** A second version of a vector goes into production, is served, and goes back in one call. */
async function rollBack(
  { acme, client, calibrator, desk, tone, figures }: RollBackStage,
  options: StoryOptions,
): Promise<void> {
  const { onShown, signal } = options;
  const pairs = desk.pairs[tone] ?? [];
  const half = { ...desk, pairs: { ...desk.pairs, [tone]: pairs.slice(0, pairs.length >> 1) } };
  const again = { ...(await learn(calibrator, half, tone, options)), figures };
  const version = await acme.publish(again);
  await acme.approve(version);
  await acme.followed(await acme.activate(tone));
  const served = async () => {
    const persona: Persona = { selector: { case: "name", value: personaName(acme.tenant, tone) } };
    const { started } = await client.generateText(request("Where is my parcel?", { persona, seed: 1 }), { signal });
    return started.persona?.versionDigests[0]?.slice(0, 12);
  };
  const before = await served();
  await acme.followed(await acme.setProduction(tone, version));
  const during = await served();
  await acme.followed(await acme.rollBack(tone));
  const after = await served();
  onShown(`served ${before}, then ${during}, and after the rollback ${after}`);
  if (before === during || before !== after) throw new Error("the rollback did not bring the first version back");
}

async function learn(
  client: InferenceClient,
  desk: Desk,
  tone: string,
  { signal, onProgress }: StoryOptions,
): Promise<Omit<LearnedPersona, "figures">> {
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
  const pairsJson = canonicalJson(pairs.map((pair) => ({ ...pair })));
  return { tone, vector, pairsJson, alpha: choice.alpha, mode: choice.mode };
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

function personaName(tenant: string, tone: string): string {
  return `tenants/${tenant}/personas/${tone}`;
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
