import { canonicalJson, type JsonValue } from "./canonical-json.ts";
import type { VectorVersion } from "./vector-file.ts";
import { cosine } from "./vector-math.ts";

/** What tells two versions apart, for the person who approves one in place of the other. */
export interface VersionDiff {
  /** Every layer of either, ascending. */
  readonly layers: readonly LayerDiff[];
  /**
   * Fields of the manifest that differ, in the order of their names; those of the origin as `origin.<field>`. `layers` and
   * `referenceNorms` are told by layer instead.
   */
  readonly fields: readonly FieldDiff[];
}

export interface LayerDiff {
  readonly layer: number;
  /** Between the two directions; absent where only one has the layer, or their widths differ. */
  readonly cosine?: number;
  /** Absent where the first has not the layer. */
  readonly referenceNorm?: number;
  /** Absent where the other has not the layer. */
  readonly otherReferenceNorm?: number;
  /** The other's over the first's; absent where only one has the layer. */
  readonly referenceNormRatio?: number;
}

export interface FieldDiff {
  readonly field: string;
  /** Absent where the first has no such field. */
  readonly value?: JsonValue;
  /** Absent where the other has no such field. */
  readonly otherValue?: JsonValue;
}

/**
 * Compare two versions, of one model or not: where they are not, the fields say so, and cosines mean little.
 *
 * @param a - the first, as a rule the one in place
 * @param b - the other
 */
export function diffVersions(a: VectorVersion, b: VectorVersion): VersionDiff {
  const first = referenceNormsOf(a);
  const other = referenceNormsOf(b);
  const layers = [...new Set([...first.keys(), ...other.keys()])].sort((x, y) => x - y);
  return {
    layers: layers.map((layer) => diffLayer(layer, a, b, first.get(layer), other.get(layer))),
    fields: diffFields(a, b),
  };
}

function referenceNormsOf({ manifest: { layers, referenceNorms } }: VectorVersion): Map<number, number> {
  return new Map(layers.map((layer, i) => [layer, referenceNorms[i] as number]));
}

function diffLayer(
  layer: number,
  a: VectorVersion,
  b: VectorVersion,
  referenceNorm: number | undefined,
  otherReferenceNorm: number | undefined,
): LayerDiff {
  const direction = a.directions.get(layer);
  const otherDirection = b.directions.get(layer);
  const comparable = direction !== undefined && direction.length === otherDirection?.length;
  return {
    layer,
    ...(comparable ? { cosine: cosine(direction, otherDirection as Float32Array) } : {}),
    ...(referenceNorm === undefined ? {} : { referenceNorm }),
    ...(otherReferenceNorm === undefined ? {} : { otherReferenceNorm }),
    ...(referenceNorm === undefined || otherReferenceNorm === undefined
      ? {}
      : { referenceNormRatio: otherReferenceNorm / referenceNorm }),
  };
}

function diffFields(a: VectorVersion, b: VectorVersion): FieldDiff[] {
  const first = fieldsOf(a);
  const other = fieldsOf(b);
  return [...new Set([...first.keys(), ...other.keys()])].sort().flatMap((field): FieldDiff[] => {
    const value = first.get(field);
    const otherValue = other.get(field);
    const same = value !== undefined && otherValue !== undefined && canonicalJson(value) === canonicalJson(otherValue);
    if (same) return [];
    return [{ field, ...(value === undefined ? {} : { value }), ...(otherValue === undefined ? {} : { otherValue }) }];
  });
}

/** Fields that are told by layer. */
const BY_LAYER: ReadonlySet<string> = new Set(["layers", "referenceNorms"]);

function fieldsOf({ manifest }: VectorVersion): Map<string, JsonValue> {
  const { origin, ...fields } = manifest as unknown as Readonly<Record<string, JsonValue | undefined>>;
  const entries = [
    ...Object.entries(fields).filter(([field]) => !BY_LAYER.has(field)),
    ...Object.entries(origin ?? {}).map(([field, value]) => [`origin.${field}`, value] as const),
  ];
  return new Map(entries.flatMap(([field, value]) => (value === undefined ? [] : [[field, value as JsonValue]])));
}
