import { type EngineOptions, type PeerEngine, Recorder } from "../peer-engine.ts";

// What of the package is used: it is installed only where this bench runs, so that its own types cannot be imported.

interface NodeLlamaCpp {
  getLlama(options: {
    readonly gpu: false;
    readonly build: "never";
    readonly maxThreads: number;
    readonly logLevel: "error";
  }): Promise<{
    loadModel(options: { readonly modelPath: string }): Promise<{
      createContext(options: {
        readonly contextSize: number;
        readonly sequences: number;
        readonly threads: { readonly ideal: number; readonly min: number };
      }): Promise<{ getSequence(): Sequence }>;
    }>;
  }>;
}

interface Sequence {
  evaluate(
    tokens: readonly number[],
    options: { readonly temperature: 0; readonly yieldEogToken: true },
  ): AsyncIterable<number>;
  clearHistory(): Promise<void>;
}

const PACKAGE: string = "node-llama-cpp";

/** node-llama-cpp as its users run it: the prebuilt binary, a sequence per request, batched by its context. */
export async function openNodeLlamaCpp(options: EngineOptions): Promise<PeerEngine> {
  const { threads } = options;
  const { getLlama } = (await import(PACKAGE)) as NodeLlamaCpp;
  const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error" });
  const model = await llama.loadModel({ modelPath: options.model });
  const context = await model.createContext({
    contextSize: options.contextTokens,
    sequences: options.slots,
    threads: { ideal: threads, min: threads },
  });
  const sequences = Array.from({ length: options.slots }, () => context.getSequence());
  return {
    generate: async ({ prompts, tokens }) => {
      const used = sequences.slice(0, prompts.length);
      await Promise.all(used.map((sequence) => sequence.clearHistory()));
      const recorder = new Recorder(prompts.length);
      await Promise.all(
        used.map(async (sequence, row) => {
          const generated = sequence.evaluate(prompts[row] as readonly number[], {
            temperature: 0,
            yieldEogToken: true,
          });
          for await (const id of generated) if (recorder.token(row, id) === tokens) break;
        }),
      );
      return recorder;
    },
  };
}
