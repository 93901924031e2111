import type { Architecture } from "./architecture.ts";
import { gemma2 } from "./gemma2.ts";
import { gemma3 } from "./gemma3.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";
import { smollm3 } from "./smollm3.ts";

export type { Architecture, CommonConfig } from "./architecture.ts";
export { HARMLESS_FIELDS, tokenIds } from "./fields.ts";

/** Every family that can be imported, by `model_type`. */
export const ARCHITECTURES: ReadonlyMap<string, Architecture> = new Map(
  [llama, mistral, qwen2, qwen3, smollm3, gemma2, gemma3, phi3].map((family) => [family.modelType, family]),
);

/** Relatives that are easily taken for a family above, and what to look for instead. */
export const RELATIVES: ReadonlyMap<string, string> = new Map([
  ["gemma3", 'a model with an image encoder; text-only checkpoints of Gemma 3 have "gemma3_text"'],
]);
