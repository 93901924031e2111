import { z } from "zod";
import type { RopeSpec } from "../../graph/decoder-spec.ts";
import { invalid, parseFields, unsupported } from "../refusals.ts";
import { agreed } from "./agreed.ts";
import { SCALINGS, type ScalingContext, type ScalingKind } from "./rope-scaling.ts";

/** One place of config.json where rotary settings may be. */
interface RopeSource {
  readonly field: string;
  readonly value: Readonly<Record<string, unknown>> | null | undefined;
}

interface RopeContext extends Pick<ScalingContext, "originalContext" | "modelContext" | "contextTokens"> {
  readonly headDim: number;
  /** Names of `rope_type` that the family computes, and the scaling that each stands for. */
  readonly kinds: Readonly<Record<string, ScalingKind>>;
  /** The base, where it is written outside of the settings. */
  readonly theta: { readonly value: number | null | undefined; readonly default: number };
  /** Share of a head that is rotated, where it is written outside of the settings; for families that rotate parts. */
  readonly partialRotary?: { readonly value: number | null | undefined };
}

/** What most families compute: whatever the library does. */
const EVERY_KIND = {
  default: "default",
  linear: "linear",
  llama3: "llama3",
  yarn: "yarn",
  longrope: "longrope",
} as const;

const NAMES = z.object({ rope_type: z.string().nullish(), type: z.string().nullish() });

interface FlatSettings {
  readonly rope_scaling?: RopeSource["value"];
  readonly rope_parameters?: RopeSource["value"];
}

/** The rotary embedding of a family with one for all layers, over whole heads. */
export function plainRope(
  config: FlatSettings & {
    readonly rope_theta?: number | null | undefined;
    readonly max_position_embeddings: number;
  },
  options: { readonly headDim: number; readonly contextTokens: number; readonly defaultTheta?: number },
): RopeSpec {
  return readRope(flatSources(config), {
    headDim: options.headDim,
    kinds: EVERY_KIND,
    theta: { value: config.rope_theta, default: options.defaultTheta ?? 10_000 },
    modelContext: config.max_position_embeddings,
    contextTokens: options.contextTokens,
  });
}

/** Where transformers 4 and 5 write settings for all layers. */
export function flatSources(config: FlatSettings): RopeSource[] {
  return [
    { field: "rope_scaling", value: config.rope_scaling },
    { field: "rope_parameters", value: config.rope_parameters },
  ];
}

/**
 * Read a rotary embedding from wherever its settings are written.
 *
 * @throws CheckpointError when a setting is unknown, or two places disagree
 */
export function readRope(sources: readonly RopeSource[], context: RopeContext): RopeSpec {
  // An empty object is as good as none, as in transformers.
  const written = sources.filter(({ value }) => value != null && Object.keys(value).length > 0);
  const [rope = readOne({ field: "", value: {} }, context), other] = written.map((source) => readOne(source, context));
  if (other !== undefined && JSON.stringify(rope) !== JSON.stringify(other)) {
    throw invalid(`"${written[0]?.field}" and "${written[1]?.field}" describe different rotary embeddings`);
  }
  return rope;
}

function readOne({ field, value }: RopeSource, context: RopeContext): RopeSpec {
  const names = parseFields(NAMES, value, "config.json", field);
  const name = agreed("rope_type", [names.rope_type, names.type]) ?? "default";
  const kind = Object.hasOwn(context.kinds, name) ? context.kinds[name] : undefined;
  if (kind === undefined) {
    const key = names.rope_type == null ? "type" : "rope_type";
    throw unsupported(`${field}.${key}`, name, Object.keys(context.kinds).join(", "));
  }
  const settings = parseFields(SCALINGS[kind].schema, value, "config.json", field);
  const rotaryDim = readRotaryDim(settings.partial_rotary_factor, context);
  const theta = agreed("rope_theta", [settings.rope_theta, context.theta.value]);
  if (theta === undefined && context.theta.value === null) throw invalid("the base of the rotary embedding is null");
  return {
    theta: theta ?? context.theta.default,
    rotaryDim,
    scaling: SCALINGS[kind].read(settings as never, { ...context, field, rotaryDim }),
  };
}

/** Elements of a head that are rotated. */
function readRotaryDim(inner: number | null | undefined, { headDim, partialRotary }: RopeContext): number {
  const factor = agreed("partial_rotary_factor", [inner, partialRotary?.value]) ?? 1;
  if (factor !== 1 && partialRotary === undefined) throw unsupported("partial_rotary_factor", factor, "1");
  const rotaryDim = Math.trunc(headDim * factor);
  if (rotaryDim < 2 || rotaryDim % 2 !== 0) {
    throw unsupported("partial_rotary_factor", factor, `an even number of the ${headDim} elements of a head`);
  }
  return rotaryDim;
}
