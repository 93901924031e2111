import { basename, dirname } from "node:path";
import { type EngineOptions, type PeerEngine, Recorder } from "../peer-engine.ts";

// What of the package is used: it is installed only where this bench runs, so that its own types cannot be imported.

interface Transformers {
  readonly env: { allowRemoteModels: boolean; allowLocalModels: boolean; localModelPath: string };
  readonly Tensor: new (type: "int64", data: BigInt64Array, dims: readonly number[]) => object;
  readonly AutoModelForCausalLM: {
    from_pretrained(
      name: string,
      options: {
        readonly dtype: "fp32";
        readonly device: "cpu";
        readonly local_files_only: boolean;
        readonly session_options: { readonly intraOpNumThreads: number };
      },
    ): Promise<CausalModel>;
  };
}

interface CausalModel {
  generate(options: {
    readonly inputs: object;
    readonly attention_mask: object;
    readonly max_new_tokens: number;
    readonly do_sample: false;
    readonly streamer: Streamer;
  }): Promise<unknown>;
}

interface Streamer {
  put(tokens: readonly (readonly bigint[])[]): void;
  end(): void;
}

const PACKAGE: string = "@huggingface/transformers";

/**
 * transformers.js as its users run it: `generate` on a model from a local folder. The suffix of the file it picks for
 * `fp32` is empty; what the weights are is the file's own business.
 */
export async function openTransformersJs(options: EngineOptions): Promise<PeerEngine> {
  const { env, Tensor, AutoModelForCausalLM } = (await import(PACKAGE)) as Transformers;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = dirname(options.model);
  const model = await AutoModelForCausalLM.from_pretrained(basename(options.model), {
    dtype: "fp32",
    device: "cpu",
    local_files_only: true,
    session_options: { intraOpNumThreads: options.threads },
  });
  const int64 = (rows: readonly (readonly number[])[]) =>
    new Tensor("int64", BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]?.length ?? 0]);
  return {
    generate: async ({ prompts, tokens }) => {
      const recorder = new Recorder(prompts.length);
      let isPrompt = true;
      await model.generate({
        inputs: int64(prompts),
        attention_mask: int64(prompts.map((prompt) => prompt.map(() => 1))),
        max_new_tokens: tokens,
        do_sample: false,
        streamer: {
          put: (rows) => {
            if (!isPrompt) for (const [row, [id]] of rows.entries()) recorder.token(row, Number(id));
            isPrompt = false;
          },
          end: () => {},
        },
      });
      return recorder;
    },
  };
}
