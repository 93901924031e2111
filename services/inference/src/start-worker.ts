import { loadTokenizer } from "@persona-mesh/model";
import { ModelRuntime } from "@persona-mesh/model/runtime";
import { selfTest, shareThreads } from "@persona-mesh/onnx";
import { InferenceService } from "@persona-mesh/protocol";
import {
  bindService,
  createMetrics,
  type Logger,
  type Metrics,
  type RunningServer,
  startServer,
  toServiceError,
} from "@persona-mesh/service";
import { measureChunkSize } from "./engine/chunk-size.ts";
import { Engine } from "./engine/engine.ts";
import { openBaseline } from "./guard/open-baseline.ts";
import {
  availableMemory,
  planMemory,
  prefixBytesOf,
  requireMemory,
  servedContext,
  swapBytesOf,
} from "./memory-plan.ts";
import { openModel } from "./open-model.ts";
import { type OpenPersonas, openPersonas, SERVICE_NAME } from "./open-personas.ts";
import { checkWorkerConfig, type WorkerValues } from "./options.ts";
import { requireRunnable, warnOfBatchDependence } from "./precision-support.ts";
import { observeSource } from "./registry/observe-source.ts";
import { requireSteering } from "./require-steering.ts";
import { ERROR_MAPPERS } from "./rpc/error-mapping.ts";
import { inferenceService } from "./rpc/inference-service.ts";
import { mostTextBytes } from "./rpc/prompt.ts";
import { SteeringTable } from "./table/index.ts";
import { observeWorker } from "./telemetry/worker-gauges.ts";
import { WorkerTelemetry } from "./telemetry/worker-telemetry.ts";
import type { Worker } from "./worker.ts";

/** A worker that serves. */
export interface RunningWorker {
  readonly server: RunningServer;
  /** Engine, table and personas, for whoever wants their figures. */
  readonly worker: Worker;
  /** Resolves when the runtime is broken: what is left to do is to close, and to start anew. */
  readonly broken: Promise<unknown>;
  /** Drain, end and free everything. Further calls give the same promise. */
  close(): Promise<void>;
}

/**
 * Load the model, take in the personas, open the port. Where personas come from a registry, the port lets calls in once they
 * have come from there or from the cache.
 *
 * @throws ServiceError with the reason: MODEL_PACKAGE_CORRUPT, PRECISION_UNSUPPORTED, STEERING_SELF_TEST_FAILED,
 * PORT_IN_USE, CONFIG_INVALID
 */
export async function startWorker(values: WorkerValues, log: Logger): Promise<RunningWorker> {
  await using started = new AsyncDisposableStack();
  try {
    checkWorkerConfig(values);
    const metrics = await createMetrics(SERVICE_NAME, log);
    const { worker, ready, source } = await openWorker(values, metrics, log, started);
    if (source !== undefined) observeSource(metrics, source);
    const server = await startServer({
      name: SERVICE_NAME,
      config: values,
      log,
      metrics,
      ...(ready === undefined ? {} : { ready }),
      isFit: () => worker.engine.isFit,
      isAlive: () => worker.engine.isFit,
      services: [bindService(InferenceService, inferenceService(worker))],
      errorMappers: ERROR_MAPPERS,
    });
    if (ready !== undefined) {
      const { address, managementPort } = server;
      log.info({ address, managementPort, registry: values.registryAddress }, "waiting for the registry's personas");
    }
    const resources = started.move();
    const end = async () => {
      // The server lets no new call in and gives those that are under way its drain time, jobs still to submit included.
      await server.close();
      await resources.disposeAsync();
    };
    let closing: Promise<void> | undefined;
    return {
      server,
      worker,
      broken: worker.engine.broken,
      close: () => {
        closing ??= end();
        return closing;
      },
    };
  } catch (error) {
    throw toServiceError(error, ERROR_MAPPERS);
  }
}

interface OpenWorker extends Pick<OpenPersonas, "ready" | "source"> {
  readonly worker: Worker;
}

/** Everything but the port. What is opened is closed with `resources`, in reverse order. */
async function openWorker(
  values: WorkerValues,
  metrics: Metrics,
  log: Logger,
  resources: AsyncDisposableStack,
): Promise<OpenWorker> {
  // A runtime that copies caches or whose results depend on the batch would serve wrong text, and say nothing.
  const { threads, spinning } = values;
  shareThreads({ spinning, ...(threads !== undefined && { threads }) });
  await selfTest();
  const model = await openModel(values, log);
  const { spec, modelChecksum, graphDigest, weightBytes } = model.manifest;
  requireRunnable(model.manifest);
  await warnOfBatchDependence(model.manifest, log);
  const contextTokens = servedContext(spec, values.context);
  const sizes = { slots: values.slots, tableRows: values.tableRows, contextTokens };
  const availableBytes = availableMemory();
  const without = planMemory(spec, weightBytes, { ...sizes, prefixBytes: 0, swapBytes: 0 });
  const memory = {
    ...sizes,
    prefixBytes: prefixBytesOf(values.prefixCacheMegabytes, without, availableBytes),
    swapBytes: swapBytesOf(values.swapMegabytes, without, availableBytes),
  };
  const plan = planMemory(spec, weightBytes, memory);
  log.info({ ...memory, ...plan, availableBytes }, "memory needed once every slot is full");
  requireMemory(spec, plan, memory, availableBytes);
  const text = await loadTokenizer(model);
  const baseline = await openBaseline(model, values.guardBaseline, log);
  const table = new SteeringTable({ rows: values.tableRows, hidden: spec.hidden, layers: spec.layers });
  const runtime = resources.use(
    await ModelRuntime.open(
      { ...model, spec, weights: model.manifest.weights },
      {
        slots: values.slots,
        contextTokens,
        table: table.values,
      },
    ),
  );
  log.info(
    {
      modelChecksum,
      graphDigest,
      weightBytes,
      cacheBytes: runtime.cacheBytes,
      tableBytes: table.values.byteLength,
      slots: values.slots,
      contextTokens,
    },
    "model loaded",
  );
  await requireSteering(runtime, table.values, model.manifest, log);
  const personas = await openPersonas(values, model.manifest, metrics, log, resources);
  const engine = new Engine(runtime, {
    chunkTokens: await chunkTokensOf(values, runtime, log),
    queueCapacity: values.queueCapacity,
    prefixBytes: memory.prefixBytes,
    swapBytes: memory.swapBytes,
    serving: (tenant) => personas.catalog.serving(tenant),
    onStepFailed: (error) => log.error({ err: error }, "a step failed; its requests were ended"),
  });
  resources.defer(() => engine.stop());
  const worker = {
    model,
    text,
    contextTokens,
    mostTextBytes: mostTextBytes(text.tokenizer, contextTokens),
    engine,
    table,
    personas: personas.catalog,
    baseline,
    telemetry: new WorkerTelemetry(metrics, model.manifest, log),
  };
  observeWorker(metrics, worker);
  return { worker, ready: personas.ready, source: personas.source };
}

/** As configured, else as long as the machine computes in time; the same until the worker ends. */
async function chunkTokensOf(
  { chunkTokens, maxStallMillis }: WorkerValues,
  runtime: ModelRuntime,
  log: Logger,
): Promise<number> {
  if (chunkTokens !== undefined) return chunkTokens;
  const measured = await measureChunkSize(runtime, maxStallMillis);
  if (measured.millis > maxStallMillis)
    log.warn({ ...measured, maxStallMillis }, "even the shortest chunk takes longer");
  else log.info({ ...measured, maxStallMillis }, "prompt tokens per step, measured");
  return measured.chunkTokens;
}
