/**
 * What the OpenTelemetry conventions for generative AI call things. Written down here: their own package has them in a part
 * that takes long to load, and may rename them in any release.
 */
export const GEN_AI = {
  operation: "gen_ai.operation.name",
  provider: "gen_ai.provider.name",
  model: "gen_ai.request.model",
  tokenType: "gen_ai.token.type",
  inputTokens: "gen_ai.usage.input_tokens",
  cachedTokens: "gen_ai.usage.cache_read.input_tokens",
  outputTokens: "gen_ai.usage.output_tokens",
  finishReasons: "gen_ai.response.finish_reasons",
  choices: "gen_ai.request.choice.count",
} as const;

/** Who serves, in their words. */
export const PROVIDER_NAME = "persona-mesh";
