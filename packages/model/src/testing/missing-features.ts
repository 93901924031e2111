import type { CheckpointConfig } from "../checkpoint/config.ts";
import type { DecoderSpec, LayerKind, PlannedWeight, RopeSpec } from "../graph/index.ts";
import type { ModelChange } from "./reference-model.ts";

/** Another reading of a checkpoint, or undefined where the model does not have the feature. */
type Misreading = (config: CheckpointConfig) => ModelChange | undefined;

/** What the graphs would get wrong if a feature were ignored or misread. */
const MISREADINGS: Readonly<Record<string, Misreading>> = {
  epsilon: ({ spec }) => ({ spec: { normEps: spec.normEps + 0.5 } }),
  "gains of a layer's own norms": () => ({ weight: withSources(/\.(attention|mlp)_norm$/, finalNormInstead) }),
  "one added to norms": ({ spec }) => ({ spec: { normPlusOne: !spec.normPlusOne } }),
  "sandwich norms": ({ spec }) => when(spec.sandwichNorms, { spec: { sandwichNorms: false } }),
  "embedding scale": ({ spec }) => when(spec.embeddingScale !== 1, { spec: { embeddingScale: 1 } }),
  "a head of its own": ({ spec }) => when(!spec.tiedEmbeddings, { spec: { tiedEmbeddings: true } }),
  "soft cap of logits": ({ spec }) => when(spec.logitSoftCap !== null, { spec: { logitSoftCap: null } }),

  activation: ({ spec }) => ({ spec: { activation: spec.activation === "silu" ? "gelu-tanh" : "silu" } }),
  "which is gate and which is up": ({ source }) =>
    when(!source.fusedProjections, { weight: withSources(/\.gate_up$/, reversed) }),
  "biases of the MLP": ({ spec }) => when(spec.mlpBias, { spec: { mlpBias: false } }),

  "which is query, key and value": ({ source }) =>
    when(!source.fusedProjections, { weight: withSources(/\.qkv$/, reversed) }),
  "biases of query, key and value": ({ spec }) => when(spec.attention.qkvBias, withAttention(spec, { qkvBias: false })),
  "bias of the output projection": ({ spec }) => when(spec.attention.outBias, withAttention(spec, { outBias: false })),
  "norms of query and key": ({ spec }) =>
    when(spec.attention.queryKeyNorm, withAttention(spec, { queryKeyNorm: false })),
  "attention scale": ({ spec }) => withAttention(spec, { scale: 2 * spec.attention.scale }),
  "soft cap of attention": ({ spec }) => when(spec.attention.softCap !== null, withAttention(spec, { softCap: null })),

  windows: ({ spec }) =>
    when(
      hasWindow(spec),
      withKinds(spec, () => ({ window: null })),
    ),
  "the last position of a window": ({ spec }) =>
    when(
      hasWindow(spec),
      withKinds(spec, ({ window }) => ({ window: window && window - 1 })),
    ),
  "the end of a window": ({ spec }) =>
    when(
      hasWindow(spec),
      withKinds(spec, ({ window }) => ({ window: window && window + 1 })),
    ),
  "layers without a window": ({ spec }) => {
    const window = spec.layerKinds.find((kind) => kind.window !== null)?.window ?? null;
    const mixed = hasWindow(spec) && spec.layerKinds.some((kind) => kind.window === null);
    return when(
      mixed,
      withKinds(spec, () => ({ window })),
    );
  },

  "rotary base": ({ spec }) => withRopes(spec, () => ({ theta: 1e30 })),
  "layers without positions": ({ spec }) =>
    when(
      spec.layerKinds.some(({ rope }) => rope === null),
      withKinds(spec, () => ({ rope: 0 })),
    ),
  "rotary embeddings by layer": ({ spec }) =>
    when(
      spec.ropes.length > 1,
      withKinds(spec, ({ rope }) => ({ rope: rope && 0 })),
    ),
  "partial rotary": ({ spec }) =>
    when(
      spec.ropes.some(({ rotaryDim }) => rotaryDim < spec.headDim),
      withRopes(spec, () => ({ rotaryDim: spec.headDim, scaling: { kind: "none" } })),
    ),
  "linear scaling": scalingIgnored("linear"),
  "llama3 scaling": scalingIgnored("llama3"),
  "yarn scaling": scalingIgnored("yarn"),
  "longrope scaling": scalingIgnored("longrope"),
  "factor on cos and sin": ({ spec }) =>
    when(
      spec.ropes.some(({ scaling }) => "attentionFactor" in scaling && scaling.attentionFactor !== 1),
      withRopes(spec, ({ scaling }) =>
        "attentionFactor" in scaling ? { scaling: { ...scaling, attentionFactor: 1 } } : {},
      ),
    ),
};

/** Every feature that a model may have. */
export const FEATURES: readonly string[] = Object.keys(MISREADINGS);

/** Misreadings of a model, by the name of the feature that each leaves out: one for every feature the model has. */
export function missingFeatures(config: CheckpointConfig): ReadonlyMap<string, ModelChange> {
  const changes = new Map<string, ModelChange>();
  for (const [feature, misreading] of Object.entries(MISREADINGS)) {
    const change = misreading(config);
    if (change !== undefined) changes.set(feature, change);
  }
  return changes;
}

function when(has: boolean, change: ModelChange): ModelChange | undefined {
  return has ? change : undefined;
}

function hasWindow({ layerKinds }: DecoderSpec): boolean {
  return layerKinds.some(({ window }) => window !== null);
}

function withAttention({ attention }: DecoderSpec, part: Partial<DecoderSpec["attention"]>): ModelChange {
  return { spec: { attention: { ...attention, ...part } } };
}

function withKinds({ layerKinds }: DecoderSpec, change: (kind: LayerKind) => Partial<LayerKind>): ModelChange {
  return { spec: { layerKinds: layerKinds.map((kind) => ({ ...kind, ...change(kind) })) } };
}

function withRopes({ ropes }: DecoderSpec, change: (rope: RopeSpec) => Partial<RopeSpec>): ModelChange {
  return { spec: { ropes: ropes.map((rope) => ({ ...rope, ...change(rope) })) } };
}

function scalingIgnored(kind: RopeSpec["scaling"]["kind"]): Misreading {
  return ({ spec }) =>
    when(
      spec.ropes.some(({ scaling }) => scaling.kind === kind),
      withRopes(spec, () => ({ scaling: { kind: "none" } })),
    );
}

type Sources = PlannedWeight["sources"];

function withSources(weights: RegExp, change: (sources: Sources) => Sources) {
  return (weight: PlannedWeight): PlannedWeight =>
    weights.test(weight.name) ? { ...weight, sources: change(weight.sources) } : weight;
}

function finalNormInstead([source]: Sources): Sources {
  return source === undefined ? [] : [{ ...source, name: "model.norm.weight" }];
}

function reversed(sources: Sources): Sources {
  return [...sources].reverse();
}
