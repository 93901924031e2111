import type { JsonValue } from "./canonical-json.ts";
import type { Composition, LayerComposition } from "./composition.ts";
import type { CompositionReason } from "./error.ts";
import type { Finding } from "./term.ts";

/**
 * A composition as it is stored beside the persona: everything but the rows, which are composed again where they act.
 *
 * Numbers are those that were computed, to the last bit: JSON writes a float64 so that reading gives the same one. What JSON
 * cannot say is null (a dose that overflowed), and in the details of findings text ("Infinity"); −0 is 0. So
 * `canonicalJson` takes it, and equal compositions have equal descriptions.
 */
export interface CompositionDescription {
  readonly outcome: Composition["outcome"];
  /** What SCALE multiplied the rows by; 1 otherwise. */
  readonly factor: number;
  readonly totalDose: number | null;
  /** Ascending by layer; empty when the terms were unfit to compose. */
  readonly layers: readonly LayerDescription[];
  readonly findings: readonly FindingDescription[];
}

/** `LayerComposition` in what JSON can say. A type, not an interface: it is a `JsonValue`. */
export type LayerDescription = {
  readonly layer: number;
  readonly terms: readonly number[];
  /** terms × terms, row-major. */
  readonly gram: readonly (number | null)[];
  readonly remainders: readonly (number | null)[];
  readonly referenceNorm: number | null;
  readonly writtenDose: number | null;
  readonly dose: number | null;
};

export type FindingDescription = {
  readonly reason: CompositionReason;
  readonly message: string;
  readonly term?: number;
  readonly layer?: number;
  readonly details: Readonly<Record<string, string | number>>;
};

/** @returns plain JSON, of buffers of its own */
export function describeComposition(composition: Composition): CompositionDescription & JsonValue {
  return {
    outcome: composition.outcome,
    factor: composition.outcome === "REJECTED" ? 1 : composition.factor,
    totalDose: finite(composition.totalDose),
    layers: composition.layers.map(describeLayer),
    findings: composition.findings.map(describeFinding),
  };
}

function describeLayer(layer: LayerComposition): LayerDescription {
  return {
    layer: layer.layer,
    terms: [...layer.terms],
    gram: Array.from(layer.gram, finite),
    remainders: layer.remainders.map(finite),
    referenceNorm: finite(layer.referenceNorm),
    writtenDose: finite(layer.writtenDose),
    dose: finite(layer.dose),
  };
}

function describeFinding({ reason, message, term, layer, details }: Finding): FindingDescription {
  const sayable = Object.entries(details).map(([key, value]) => [
    key,
    typeof value === "number" ? (finite(value) ?? String(value)) : value,
  ]);
  return {
    reason,
    message,
    ...(term === undefined ? {} : { term }),
    // A layer that is no number is in the details too, as text.
    ...(layer === undefined || !Number.isFinite(layer) ? {} : { layer: layer + 0 }),
    details: Object.fromEntries(sayable),
  };
}

function finite(value: number): number | null {
  if (!Number.isFinite(value)) return null;
  return value === 0 ? 0 : value;
}
