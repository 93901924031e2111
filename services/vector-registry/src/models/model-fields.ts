import type { Model } from "@persona-mesh/protocol/registry";
import type { FieldViolation } from "@persona-mesh/service";
import { MAX_HIDDEN_SIZE, MAX_LAYER_COUNT } from "@persona-mesh/steering";
import { DISPLAY_NAME, textViolations } from "../request-fields.ts";

const MAX_ARCHITECTURE = 128;
/** As the column's type holds. */
const MAX_INT = 2 ** 31 - 1;

/** What is wrong with a model that is to be registered. */
export function modelViolations(model: Model): FieldViolation[] {
  const whole = (field: string, value: number, least: number, most: number): FieldViolation[] =>
    value >= least && value <= most
      ? []
      : [{ field: `model.${field}`, description: `${value} is not from ${least} to ${most}` }];
  const digest = (field: string, value: string, optional: boolean): FieldViolation[] =>
    (optional && value === "") || /^[0-9a-f]{64}$/.test(value)
      ? []
      : [{ field: `model.${field}`, description: "must be a sha256 in lower-case hex" }];
  return [
    ...digest("model_checksum", model.modelChecksum, false),
    ...digest("tokenizer_digest", model.tokenizerDigest, true),
    ...textViolations("model.display_name", model.displayName, DISPLAY_NAME),
    ...textViolations("model.architecture", model.architecture, { max: MAX_ARCHITECTURE, required: true }),
    ...whole("layers", model.layers, 1, MAX_LAYER_COUNT),
    ...whole("hidden_size", model.hiddenSize, 1, MAX_HIDDEN_SIZE),
    ...whole("vocabulary_size", model.vocabularySize, 0, MAX_INT),
    ...normViolations(model.referenceNorms, model.layers),
  ];
}

/** None, or one of each layer. */
export function normViolations(norms: readonly number[], layers: number): FieldViolation[] {
  const field = "model.reference_norms";
  if (norms.length !== 0 && norms.length !== layers) {
    return [{ field, description: `${norms.length} for ${layers} layers` }];
  }
  const wrong = norms.findIndex((norm) => !(norm > 0 && Number.isFinite(norm)));
  return wrong < 0 ? [] : [{ field: `${field}[${wrong}]`, description: "must be a positive number" }];
}
