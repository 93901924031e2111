import { realpath } from "node:fs/promises";
import { join } from "node:path";
import { selfTest } from "@persona-mesh/onnx";
import { ModelPackageError } from "../errors.ts";
import { type GraphRole, providerOf } from "../graph/index.ts";
import { readManifest } from "../package/load-package.ts";
import type { ModelManifest } from "../package/manifest.ts";
import { ModelRuntime } from "../runtime/index.ts";
import { loadTokenizer, type ModelText } from "../tokenizer/load-tokenizer.ts";
import { CheckList, type CheckResult, CheckSkipped, type Finding, type VerifyProgress } from "./check.ts";
import { checkFiles, checkGraphs, checkIdentities, checkWeights, type PackageOnDisk } from "./file-checks.ts";
import { checkBatch, checkChunks, checkLogits } from "./forward-checks.ts";
import { PROBE_CONTEXT, PROBE_SLOTS, Probe } from "./probe.ts";
import { checkDelta, checkGainZero, checkProjections, checkRenorm, SteeringBaseline } from "./steering-checks.ts";
import { checkChatTemplate, checkTokenizer } from "./text-checks.ts";

export interface VerifyOptions {
  /**
   * Threads that read files, and threads of one operator.
   *
   * @default one per processor
   */
  readonly threads?: number;
  readonly onProgress?: (progress: VerifyProgress) => void;
  /** Called after each check. */
  readonly onResult?: (result: CheckResult) => void;
  /** Ends the verification with the signal's reason, between two runs. */
  readonly signal?: AbortSignal;
}

export interface VerifyReport {
  /** Absolute path. */
  readonly directory: string;
  readonly manifest: ModelManifest;
  /** One for every name of the list of checks, in its order. */
  readonly checks: readonly CheckResult[];
  /** No check failed; some may have been skipped. */
  readonly passed: boolean;
}

/**
 * Check all that can be checked of a model package without its checkpoint: bytes, identities, graphs, text, and what the
 * model computes, above all that steering acts as predicted.
 *
 * Runs on a model of any size: beside the weights it takes a cache for {@link PROBE_SLOTS} × {@link PROBE_CONTEXT}
 * positions. Reads the weights twice and runs about two dozen tokens per layer.
 *
 * @throws ModelPackageError MODEL_PACKAGE_NOT_FOUND, MODEL_PACKAGE_VERSION_UNSUPPORTED, and MODEL_PACKAGE_CORRUPT where the
 *   manifest itself cannot be read: then there is nothing to check against
 */
export async function verifyPackage(directory: string, options: VerifyOptions = {}): Promise<VerifyReport> {
  const absolute = await realpath(directory).catch(() => {
    throw new ModelPackageError("MODEL_PACKAGE_NOT_FOUND", `model package "${directory}" does not exist`);
  });
  const manifest = await readManifest(absolute);
  const found: PackageOnDisk = { directory: absolute, manifest };
  const checks = new CheckList(options);
  await runChecks(found, checks, options);
  const passed = checks.results.every(({ outcome }) => outcome !== "failed");
  return { directory: absolute, manifest, checks: checks.results, passed };
}

async function runChecks(found: PackageOnDisk, checks: CheckList, options: VerifyOptions): Promise<void> {
  const { manifest } = found;
  const reading = {
    ...(options.signal && { signal: options.signal }),
    ...(options.threads !== undefined && { threads: options.threads }),
  };
  const isWhole = await checks.run("files", (progress) => checkFiles(found, reading, progress));
  const isIdentified = await checks.run("identities", () => checkIdentities(found));
  if (!isWhole || !isIdentified) {
    checks.skipRest("not run: what the manifest describes is not what is there");
    return;
  }
  await checks.run("weights", (progress) => checkWeights(found, progress));
  await checks.run("graphs", () => checkGraphs(found));
  await checkText(found, checks);
  const provider = providerOf(manifest.precision);
  if (provider !== "cpu") {
    checks.skipRest(
      `not run: ${manifest.precision.name} needs the provider "${provider}", and this machine runs "cpu"`,
    );
    return;
  }
  await checks.run("runtime", () => checkRuntime(options.threads));
  await checkComputation(found, checks, options.threads);
}

async function checkText(found: PackageOnDisk, checks: CheckList): Promise<void> {
  let text: ModelText | undefined;
  await checks.run("tokenizer", async () => {
    text = await loadTokenizer({ ...found, ...paths(found) });
    return checkTokenizer(text.tokenizer, found.manifest);
  });
  await checks.run("chat-template", async () => {
    if (text === undefined) throw new CheckSkipped("not run: the tokenizer does not load");
    return checkChatTemplate(text, found.manifest);
  });
}

async function checkRuntime(threads: number | undefined): Promise<Finding> {
  const { version } = await selfTest(threads === undefined ? {} : { intraOpThreads: threads });
  return { message: `ONNX Runtime ${version} keeps what the engine builds on`, figures: { version } };
}

async function checkComputation(found: PackageOnDisk, checks: CheckList, threads: number | undefined): Promise<void> {
  const { manifest } = found;
  const { spec, precision, weights, tokens } = manifest;
  const table = new Float32Array((spec.layers + 1) * spec.hidden);
  const contextTokens = Math.min(spec.contextTokens, PROBE_CONTEXT);
  await using resources = new AsyncDisposableStack();
  let probe: Probe | undefined;
  await checks.run("loading", async (progress) => {
    progress(0, 1);
    const runtime = resources.use(
      await ModelRuntime.open(
        { spec, weights, ...paths(found) },
        { slots: PROBE_SLOTS, contextTokens, table, ...(threads !== undefined && { threads }) },
      ),
    );
    probe = new Probe(runtime, table);
    return { message: "all graphs load, over one copy of the weights", figures: { cacheBytes: runtime.cacheBytes } };
  });
  if (probe === undefined) {
    checks.skipRest("not run: the graphs do not load");
    return;
  }
  const loaded = probe;
  await checks.run("logits", (progress) => checkLogits(loaded, tokens.bos, progress));
  await checks.run("prefill-chunks", (progress) => checkChunks(loaded, precision, progress));
  // Measured within the first check that needs it, so that its failure is that check's.
  let measured: Promise<SteeringBaseline> | undefined;
  const baseline = () => {
    measured ??= SteeringBaseline.measure(loaded);
    return measured;
  };
  await checks.run("batch-independence", async (progress) => {
    await baseline();
    return checkBatch(loaded, precision, progress);
  });
  await checks.run("steering-delta", async (progress) => checkDelta(await baseline(), progress));
  await checks.run("steering-projections", async (progress) => checkProjections(await baseline(), progress));
  await checks.run("steering-gain-zero", async (progress) => checkGainZero(await baseline(), progress));
  await checks.run("steering-renorm", async (progress) => checkRenorm(await baseline(), progress));
}

/** Where the files of a package lie, for what takes a package whose bytes have been verified. */
function paths({ directory, manifest }: PackageOnDisk) {
  return {
    weightsPath: join(directory, manifest.weightsFile),
    graphPath: (role: GraphRole) => join(directory, manifest.graphs[role] ?? `${role}.onnx`),
  };
}
