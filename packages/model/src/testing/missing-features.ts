import type { CheckpointConfig } from "../checkpoint/config.ts";
import type { DecoderSpec, PlannedWeight, RopeSpec } from "../graph/index.ts";
import type { ModelChange } from "./reference-model.ts";

/**
 * What the graphs would get wrong if a feature of the model were ignored or misread, by name: each feature that the model has.
 */
export function missingFeatures({ spec, source }: CheckpointConfig): ReadonlyMap<string, ModelChange> {
  const { attention, ropes, layerKinds } = spec;
  const changes = new Map<string, ModelChange>([
    ["epsilon", { spec: { normEps: spec.normEps + 0.5 } }],
    ["gains of a layer's own norms", { weight: withSources(/\.(attention|mlp)_norm$/, finalNormInstead) }],
    ["activation", { spec: { activation: spec.activation === "silu" ? "gelu-tanh" : "silu" } }],
    ["one added to norms", { spec: { normPlusOne: !spec.normPlusOne } }],
    ["attention scale", { spec: { attention: { ...attention, scale: 2 * attention.scale } } }],
    ["rotary base", { spec: { ropes: ropes.map((rope) => ({ ...rope, theta: 1e30 })) } }],
  ]);
  const has = (feature: boolean, name: string, change: ModelChange) => {
    if (feature) changes.set(name, change);
  };
  const withAttention = (part: Partial<DecoderSpec["attention"]>): ModelChange => ({
    spec: { attention: { ...attention, ...part } },
  });
  const withKinds = (change: (kind: DecoderSpec["layerKinds"][number]) => Partial<typeof kind>): ModelChange => ({
    spec: { layerKinds: layerKinds.map((kind) => ({ ...kind, ...change(kind) })) },
  });
  const withRopes = (change: (rope: RopeSpec) => Partial<RopeSpec>): ModelChange => ({
    spec: { ropes: ropes.map((rope) => ({ ...rope, ...change(rope) })) },
  });
  has(!source.fusedProjections, "which is query, key and value", { weight: withSources(/\.qkv$/, reversed) });
  has(!source.fusedProjections, "which is gate and which is up", { weight: withSources(/\.gate_up$/, reversed) });
  has(attention.qkvBias, "bias of query, key, value", withAttention({ qkvBias: false }));
  has(attention.outBias, "bias of the output projection", withAttention({ outBias: false }));
  has(spec.mlpBias, "biases of the MLP", { spec: { mlpBias: false } });
  has(attention.queryKeyNorm, "norms of query and key", withAttention({ queryKeyNorm: false }));
  has(attention.softCap !== null, "soft cap of attention", withAttention({ softCap: null }));
  has(spec.logitSoftCap !== null, "soft cap of logits", { spec: { logitSoftCap: null } });
  has(spec.sandwichNorms, "sandwich norms", { spec: { sandwichNorms: false } });
  has(spec.embeddingScale !== 1, "embedding scale", { spec: { embeddingScale: 1 } });
  has(!spec.tiedEmbeddings, "a head of its own", { spec: { tiedEmbeddings: true } });

  const windows = layerKinds.flatMap(({ window }) => window ?? []);
  const [window] = windows;
  has(
    window !== undefined,
    "windows",
    withKinds(() => ({ window: null })),
  );
  has(
    window !== undefined,
    "the last position of a window",
    withKinds(({ window }) => ({ window: window && window - 1 })),
  );
  has(
    window !== undefined,
    "the end of a window",
    withKinds(({ window }) => ({ window: window && window + 1 })),
  );
  has(
    window !== undefined && windows.length < layerKinds.length,
    "layers without a window",
    withKinds(() => ({ window: window ?? null })),
  );

  has(
    layerKinds.some(({ rope }) => rope === null),
    "layers without positions",
    withKinds(() => ({ rope: 0 })),
  );
  has(
    ropes.length > 1,
    "rotary embeddings by layer",
    withKinds(({ rope }) => ({ rope: rope === null ? null : 0 })),
  );
  has(
    ropes.some(({ scaling }) => scaling.kind !== "none"),
    "rope scaling",
    withRopes(() => ({ scaling: { kind: "none" } })),
  );
  has(
    ropes.some(({ scaling }) => "attentionFactor" in scaling && scaling.attentionFactor !== 1),
    "factor on cos and sin",
    withRopes(({ scaling }) => ("attentionFactor" in scaling ? { scaling: { ...scaling, attentionFactor: 1 } } : {})),
  );
  has(
    ropes.some(({ rotaryDim }) => rotaryDim < spec.headDim),
    "partial rotary",
    withRopes(() => ({ rotaryDim: spec.headDim, scaling: { kind: "none" } })),
  );
  return changes;
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
