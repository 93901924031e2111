import { z } from "zod";
import type { LayerKind } from "../../graph/decoder-spec.ts";
import { invalid } from "../refusals.ts";

/** What each layer attends to; where it is written it decides, and the pattern that it replaces is not read. */
export const LAYER_TYPES = z
  .array(z.enum(["full_attention", "sliding_attention"]))
  .max(1024)
  .nullish();

interface LayeredConfig {
  readonly num_hidden_layers: number;
  readonly layer_types?: readonly ("full_attention" | "sliding_attention")[] | null | undefined;
}

/** One kind for all layers. */
export function sameLayers(config: LayeredConfig, kind: LayerKind): LayerKind[] {
  return Array.from({ length: config.num_hidden_layers }, () => kind);
}

/**
 * A kind per layer.
 *
 * @param isSliding - the family's pattern, for a config without `layer_types`
 * @param kindOf - what a layer is; `sliding` is never true where `window` is null
 */
export function layerKinds(
  config: LayeredConfig,
  window: number | null,
  isSliding: (layer: number) => boolean,
  kindOf: (sliding: boolean, layer: number) => Omit<LayerKind, "window">,
): LayerKind[] {
  const { num_hidden_layers: layers, layer_types: types } = config;
  if (types != null && types.length !== layers) {
    throw invalid(`"layer_types" has ${types.length} entries for ${layers} layers`);
  }
  return Array.from({ length: layers }, (_, layer) => {
    const sliding = types == null ? isSliding(layer) : types[layer] === "sliding_attention";
    if (sliding && window === null) throw invalid(`layer ${layer} has sliding attention, but no window is in force`);
    return { window: sliding ? window : null, ...kindOf(sliding, layer) };
  });
}

/** Width of a head where config.json does not say. */
export function evenHeadDim(config: { readonly hidden_size: number; readonly num_attention_heads: number }): number {
  const { hidden_size: hidden, num_attention_heads: heads } = config;
  if (hidden % heads !== 0) throw invalid(`hidden_size ${hidden} is not a multiple of num_attention_heads ${heads}`);
  return hidden / heads;
}
