import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { FinishReason, type GenerateResponseSchema, InferenceService, Mode, Positions } from "@persona-mesh/protocol";
import {
  bindService,
  createLogger,
  ensureDevKeys,
  loadConfig,
  type RoleName,
  type RunningServer,
  SERVICE_OPTIONS,
  type ServiceImplementation,
  signDevToken,
  startServer,
  withDefaults,
} from "@persona-mesh/service";

type Handlers = ServiceImplementation<typeof InferenceService>;

/** A real server on this machine, with the real contract and the answers of a test. */
export interface ScriptedWorker extends AsyncDisposable {
  readonly server: RunningServer;
  readonly address: string;
  /** Holds the development keys that the server trusts. */
  readonly dataDir: string;
  token(roles: readonly RoleName[], tenant?: string): Promise<string>;
}

export async function startScriptedWorker(handlers: Partial<Handlers> = {}): Promise<ScriptedWorker> {
  const dataDir = await mkdtemp(join(tmpdir(), "persona-client-"));
  const unscripted = (): never => {
    throw new Error("the test has no answer for this call");
  };
  const server = await startServer({
    services: [
      bindService(InferenceService, {
        generate: unscripted,
        score: unscripted,
        captureActivations: unscripted,
        getModel: unscripted,
        listLoadedPersonas: unscripted,
        ...handlers,
      }),
    ],
    config: loadConfig(withDefaults(SERVICE_OPTIONS, { dataDir, grpcPort: 0, managementPort: 0 })).values,
    log: createLogger("scripted-worker", "silent"),
  });
  return {
    server,
    address: server.address,
    dataDir,
    token: async (roles, tenant = "acme") =>
      signDevToken(await ensureDevKeys(dataDir), { subject: "tester", tenant, roles }),
    [Symbol.asyncDispose]: async () => {
      await server.kill();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Of the model that replies name. */
export const MODEL_CHECKSUM = "a".repeat(64);

type ResponseInit = MessageInitShape<typeof GenerateResponseSchema>;

/** A Generate stream that says these pieces, one token each, as the persona of the given name or as none. */
export function replyOf(pieces: readonly string[], persona?: string): ResponseInit[] {
  const proof = persona === undefined ? {} : { persona: proofOf(persona) };
  return [
    {
      event: {
        case: "started",
        value: { requestId: "r1", modelChecksum: MODEL_CHECKSUM, seed: 7n, promptTokens: 3, ...proof },
      },
    },
    ...pieces.map(
      (text, index): ResponseInit => ({
        event: { case: "tokens", value: { text, tokens: [{ id: index, logProb: -0.5, entropy: 1.25 }] } },
      }),
    ),
    {
      event: {
        case: "finished",
        value: {
          reason: FinishReason.END,
          promptTokens: 3,
          completionTokens: pieces.length,
          effectiveAlphaHundredths: persona === undefined ? 0 : 35,
          meanEntropy: 1.25,
          meanSurprisal: 0.5,
          repetition: 0.1,
          decodeMillis: 100,
        },
      },
    },
  ];
}

export function proofOf(name: string) {
  return {
    name,
    revision: "rev-1",
    versionDigests: ["d".repeat(64)],
    mode: Mode.ADD,
    positions: Positions.ALL,
    outcome: "ACCEPTED",
    doses: [{ layer: 3, dose: 0.35 }],
    effectiveAlphaHundredths: 35,
  };
}

/** Wait for a condition that another task brings about. @throws Error after five seconds */
export async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 5_000; !condition(); ) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
