import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalJson, type JsonValue } from "./canonical-json.ts";
import { SteeringError } from "./error.ts";
import reference from "./fixtures/file.json" with { type: "json" };
import { gaussian, randomVector, reasonOf, rowsOf } from "./testing/support.ts";
import { decodeVector, encodeVector, MAX_HEADER_BYTES, type VectorVersion, versionDigest } from "./vector-file.ts";
import { type ExtractedManifest, MAX_LAYER_COUNT } from "./vector-manifest.ts";
import { normalize } from "./vector-math.ts";

const HEX = "0123456789abcdef".repeat(4);

function version(
  options: { layers?: number[]; hidden?: number; seed?: number; change?: object } = {},
): VectorVersion<ExtractedManifest> {
  const { layers = [2, 3, 10], hidden = 16, seed = 1, change = {} } = options;
  const next = gaussian(seed);
  const quality = {
    pairwiseCosine: 0.1,
    auc: 0.9,
    rightSignShare: 0.95,
    splitHalfCosine: 0.8,
    normBefore: 1.25,
    removedCosine: -0.3,
  };
  const manifest: ExtractedManifest = {
    formatVersion: 1,
    name: "cheerful",
    modelChecksum: HEX,
    graphDigest: HEX,
    hiddenSize: hidden,
    layerCount: 12,
    site: "post_block",
    layers,
    referenceNorms: layers.map((layer) => Math.fround(1.1 * (layer + 1))),
    method: "MEAN_DIFF",
    pooling: "response_mean",
    extractorVersion: "1",
    pairCount: 100,
    pairsDigest: HEX,
    baselineDigest: HEX,
    quality: layers.map(() => quality),
    ...change,
  };
  return { manifest, directions: new Map(layers.map((layer) => [layer, normalize(randomVector(next, hidden))])) };
}

/** A file with any header text and any data, as an attacker would write it. */
function fileOf(header: string, data: Uint8Array, headerBytes?: number): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes ?? text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

/** The header and the data of a good file, to be tampered with. */
function parts(of: VectorVersion = version()): { header: string; data: Uint8Array } {
  const bytes = encodeVector(of);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  return { header: new TextDecoder().decode(bytes.subarray(8, 8 + length)), data: bytes.slice(8 + length) };
}

/** A good file with its header changed as parsed JSON, spelt canonically again and padded. */
function withHeader(change: (header: Record<string, unknown>) => void): Uint8Array {
  const { header, data } = parts();
  const value = JSON.parse(header) as Record<string, unknown>;
  change(value);
  const text = JSON.stringify(value);
  return fileOf(text.padEnd(Math.ceil(new TextEncoder().encode(text).length / 8) * 8), data);
}

function withManifest(change: object): Uint8Array {
  return withHeader((header) => {
    const metadata = header["__metadata__"] as { manifest: string };
    metadata.manifest = canonicalJson({ ...JSON.parse(metadata.manifest), ...change } as JsonValue);
  });
}

describe("a version", () => {
  test("comes back as it was written, in buffers of its own", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 0, max: 11 }), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 70 }),
        fc.nat(),
        (layers, hidden, seed) => {
          const written = version({ layers: layers.sort((a, b) => a - b), hidden, seed });
          const bytes = encodeVector(written);
          const read = decodeVector(bytes);
          expect(read).toEqual(written);
          expect([...read.directions.keys()]).toEqual(layers);
          bytes.fill(0);
          expect(read).toEqual(written);
        },
      ),
    );
  });

  test("is read wherever it lies in a larger buffer", () => {
    const bytes = encodeVector(version());
    const larger = new Uint8Array(bytes.length + 7);
    larger.set(bytes, 3);
    expect(decodeVector(larger.subarray(3, 3 + bytes.length))).toEqual(version());
  });

  test("is written to the same bytes whatever the order of keys and layers, and is known by their digest", () => {
    const { manifest, directions } = version();
    const turned = {
      manifest: Object.fromEntries(Object.entries(manifest).toReversed()) as unknown as ExtractedManifest,
      directions: new Map([...directions].toReversed()),
    };
    expect(encodeVector(turned)).toEqual(encodeVector({ manifest, directions }));
    // Pinned: a change here is a new format version, since every registered digest would change.
    expect(versionDigest(fixtureBytes)).toBe("e74df85c64316fdb820af00422421840feb772188b6659fefac0cf55f9a99708");
  });

  test("is told from another by any change of its manifest or its directions", () => {
    const digests = [
      version(),
      version({ seed: 2 }),
      version({ change: { name: "gloomy" } }),
      version({ change: { createdBy: "maya" } }),
      version({ change: { pairCount: 101 } }),
      version({ layers: [2, 3, 11] }),
    ].map((each) => versionDigest(encodeVector(each)));
    expect(new Set(digests).size).toBe(digests.length);
  });

  test("has no minus zero in its manifest: it equals 0, and must not have another digest", () => {
    const withZero = (zero: number) => {
      const quality = [{ ...version().manifest.quality[0], removedCosine: zero }];
      return encodeVector(version({ layers: [0], change: { layers: [zero], quality } }));
    };
    expect(withZero(-0)).toEqual(withZero(0));
    const { header, data } = parts(version({ layers: [0] }));
    const spelt = header.replace('\\"layers\\":[0]', '\\"layers\\":[-0]').trimEnd();
    expect(spelt).toContain("[-0]");
    expect(reasonOf(() => decodeVector(fileOf(spelt.padEnd(Math.ceil(spelt.length / 8) * 8), data)))).toBe(
      "VECTOR_NOT_CANONICAL",
    );
  });

  test("may be anonymous or signed", () => {
    const signed = version({ change: { createdBy: "Zoë" } });
    expect(decodeVector(encodeVector(signed)).manifest.createdBy).toBe("Zoë");
    expect("createdBy" in decodeVector(encodeVector(version())).manifest).toBe(false);
  });
});

const fixtureBytes = Uint8Array.from(Buffer.from(reference.file, "base64"));

test("the bytes are those that the safetensors library writes", () => {
  const manifest = reference.manifest as ExtractedManifest;
  const rows = rowsOf(reference.directions, manifest.hiddenSize);
  const directions = new Map(manifest.layers.map((layer, i) => [layer, rows[i] as Float32Array]));
  expect(encodeVector({ manifest, directions })).toEqual(fixtureBytes);
  expect(decodeVector(fixtureBytes)).toEqual({ manifest, directions });
});

test("the deepest model with the longest texts fits the header limit", () => {
  const layers = Array.from({ length: MAX_LAYER_COUNT }, (_, layer) => layer);
  const third = 1 / 3;
  const quality = {
    pairwiseCosine: -third,
    auc: third,
    rightSignShare: third,
    splitHalfCosine: -third,
    normBefore: third * 1e-7,
    removedCosine: -third * 1e-7,
  };
  const change = {
    layerCount: MAX_LAYER_COUNT,
    name: "💚".repeat(64),
    createdBy: '"'.repeat(128),
    quality: layers.map(() => quality),
  };
  const large = version({ layers, hidden: 2, change });
  expect(decodeVector(encodeVector(large))).toEqual(large);
});

describe("a file is refused for", () => {
  const { header, data } = parts();
  const manifestText = (JSON.parse(header) as { __metadata__: { manifest: string } }).__metadata__.manifest;
  const floats = (change: (values: Float32Array) => void) => {
    const values = new Float32Array(data.slice().buffer);
    change(values);
    return fileOf(header, new Uint8Array(values.buffer));
  };

  test.each<[string, Uint8Array, string]>([
    ["being empty", new Uint8Array(0), "VECTOR_FILE_TRUNCATED"],
    ["ending in its length", new Uint8Array(7), "VECTOR_FILE_TRUNCATED"],
    ["having no header", new Uint8Array(8), "VECTOR_HEADER_INVALID"],
    ["a header longer than the file", fileOf(header, data, 8 * data.length), "VECTOR_FILE_TRUNCATED"],
    ["a header over the limit", fileOf(header, data, MAX_HEADER_BYTES + 8), "VECTOR_FILE_TOO_LARGE"],
    ["a header length of 2^63", new Uint8Array([0, 0, 0, 0, 0, 0, 0, 128, 1, 2, 3]), "VECTOR_FILE_TOO_LARGE"],
    [
      "a header that is not padded",
      fileOf(header.trimEnd() + (header.trimEnd().length % 8 ? "" : " "), data),
      "VECTOR_NOT_CANONICAL",
    ],
    ["data cut short", fileOf(header, data.subarray(4)), "VECTOR_FILE_TRUNCATED"],
    ["data too long", fileOf(header, new Uint8Array(data.length + 1)), "VECTOR_FILE_TRUNCATED"],
    ["a header that is no UTF-8", fileOf(header, data).map((b, i) => (i === 20 ? 0xff : b)), "VECTOR_HEADER_INVALID"],
    ["a header that is no JSON", fileOf("{".padEnd(64), data), "VECTOR_HEADER_INVALID"],
    ["a header that is a list", fileOf("[]".padEnd(64), data), "VECTOR_HEADER_INVALID"],
    ["a header nested without end", fileOf("[".repeat(MAX_HEADER_BYTES), data), "VECTOR_HEADER_INVALID"],
    ["a byte order mark", fileOf(`\ufeff${header}     `, data), "VECTOR_HEADER_INVALID"],
    ["no metadata", withHeader((h) => delete h["__metadata__"]), "VECTOR_HEADER_INVALID"],
    [
      "more metadata",
      withHeader((h) => Object.assign(h["__metadata__"] as object, { a: "b" })),
      "VECTOR_HEADER_INVALID",
    ],
    [
      "a manifest that is no text",
      withHeader((h) => Object.assign(h, { __metadata__: { manifest: {} } })),
      "VECTOR_HEADER_INVALID",
    ],
    [
      "a manifest that is no JSON",
      withHeader((h) => Object.assign(h, { __metadata__: { manifest: "?" } })),
      "VECTOR_MANIFEST_INVALID",
    ],
    ["a tensor missing", withHeader((h) => delete h["direction.3"]), "VECTOR_TENSORS_INVALID"],
    [
      "a tensor too many",
      withHeader((h) => Object.assign(h, { "direction.4": h["direction.3"] })),
      "VECTOR_TENSORS_INVALID",
    ],
    [
      "another element type",
      withHeader((h) => Object.assign(h["direction.3"] as object, { dtype: "F16" })),
      "VECTOR_TENSORS_INVALID",
    ],
    [
      "another shape",
      withHeader((h) => Object.assign(h["direction.3"] as object, { shape: [4, 4] })),
      "VECTOR_TENSORS_INVALID",
    ],
    [
      "overlapping tensors",
      withHeader((h) => Object.assign(h["direction.3"] as object, { data_offsets: [0, 64] })),
      "VECTOR_TENSORS_INVALID",
    ],
    [
      "offsets out of range",
      withHeader((h) => Object.assign(h["direction.3"] as object, { data_offsets: [128, 2 ** 53] })),
      "VECTOR_TENSORS_INVALID",
    ],
    [
      "a tensor with more to say",
      withHeader((h) => Object.assign(h["direction.3"] as object, { strides: [1] })),
      "VECTOR_TENSORS_INVALID",
    ],
    ["a tensor that is null", withHeader((h) => Object.assign(h, { "direction.3": null })), "VECTOR_TENSORS_INVALID"],
    [
      "spaces in the header",
      fileOf(header.replace('"dtype":', '"dtype": ').padEnd(Math.ceil((header.length + 1) / 8) * 8), data),
      "VECTOR_NOT_CANONICAL",
    ],
    ["padding for two", fileOf(`${header}        `, data), "VECTOR_NOT_CANONICAL"],
    ["padding in front", fileOf(`        ${header}`, data), "VECTOR_NOT_CANONICAL"],
    [
      "tensors in another order",
      withHeader((h) => {
        const first = h["direction.10"];
        delete h["direction.10"];
        h["direction.10"] = first;
      }),
      "VECTOR_NOT_CANONICAL",
    ],
    [
      "a number spelt otherwise",
      withHeader((h) =>
        Object.assign(h, { __metadata__: { manifest: manifestText.replace('"pairCount":100', '"pairCount":1e2') } }),
      ),
      "VECTOR_NOT_CANONICAL",
    ],
    [
      "a key said twice",
      withHeader((h) =>
        Object.assign(h, {
          __metadata__: { manifest: manifestText.replace('"pairCount":100', '"pairCount":1,"pairCount":100') },
        }),
      ),
      "VECTOR_NOT_CANONICAL",
    ],
    ["NaN in a direction", floats((values) => values.fill(Number.NaN, 20, 21)), "VECTOR_NOT_FINITE"],
    ["Inf in a direction", floats((values) => values.fill(Number.POSITIVE_INFINITY, 20, 21)), "VECTOR_NOT_FINITE"],
    ["a direction of no length", floats((values) => values.fill(0, 0, 16)), "VECTOR_NOT_UNIT"],
    ["a direction of length 2", floats((values) => values.set(values.map((x) => 2 * x))), "VECTOR_NOT_UNIT"],
  ])("%s", (_, bytes, reason) => {
    expect(reasonOf(() => decodeVector(bytes))).toBe(reason);
  });

  test.each<[string, object]>([
    ["an unknown field", { seed: 1 }],
    ["an unknown field that objects inherit", { toString: 1 }],
    ["another format version", { formatVersion: 2 }],
    ["no name", { name: "" }],
    ["a name with a line break", { name: "a\nb" }],
    ["a name that is no text", { name: 7 }],
    ["a long name", { name: "a".repeat(129) }],
    ["half a surrogate pair", { name: "\ud800" }],
    ["a checksum in capitals", { modelChecksum: HEX.toUpperCase() }],
    ["a short digest", { pairsDigest: HEX.slice(1) }],
    ["a missing field", { graphDigest: undefined }],
    ["hidden size 0", { hiddenSize: 0 }],
    ["half a hidden unit", { hiddenSize: 16.5 }],
    ["a hidden size over the limit", { hiddenSize: 65_537 }],
    ["another site", { site: "pre_block" }],
    ["no layers", { layers: [], referenceNorms: [], quality: [] }],
    ["layers out of order", { layers: [3, 2, 10] }],
    ["a layer twice", { layers: [2, 2, 10] }],
    ["a layer beyond the model", { layers: [2, 3, 12] }],
    ["layers that are no list", { layers: { length: 3 } }],
    ["a reference norm too few", { referenceNorms: [1, 2] }],
    ["reference norm 0", { referenceNorms: [1, 2, 0] }],
    ["a reference norm that is no float32", { referenceNorms: [1, 2, 0.1] }],
    ["an unknown method", { method: "UMAP" }],
    ["an unknown pooling", { pooling: "max" }],
    ["quality of another number of layers", { quality: [] }],
    ["an AUC over 1", { quality: [1, 2, 3].map(() => ({ ...version().manifest.quality[0], auc: 1.01 })) }],
    ["a quality without a figure", { quality: [1, 2, 3].map(() => ({ auc: 1 })) }],
  ])("a manifest with %s", (_, change) => {
    expect(reasonOf(() => decodeVector(withManifest(change)))).toBe("VECTOR_MANIFEST_INVALID");
    expect(reasonOf(() => encodeVector(version({ change })))).toBe("VECTOR_MANIFEST_INVALID");
  });

  test.each<[string, (directions: Map<number, Float32Array>) => void, string]>([
    ["a direction missing", (directions) => directions.delete(3), "VECTOR_TENSORS_INVALID"],
    ["a direction too many", (directions) => directions.set(4, new Float32Array(16)), "VECTOR_TENSORS_INVALID"],
    ["a direction of another width", (directions) => directions.set(3, new Float32Array(15)), "VECTOR_TENSORS_INVALID"],
    ["a direction without length", (directions) => directions.set(3, new Float32Array(16)), "VECTOR_NOT_UNIT"],
    ["NaN", (directions) => directions.set(3, new Float32Array(16).fill(Number.NaN)), "VECTOR_NOT_FINITE"],
  ])("writing %s", (_, change, reason) => {
    const { manifest, directions } = version();
    const changed = new Map(directions);
    change(changed);
    expect(reasonOf(() => encodeVector({ manifest, directions: changed }))).toBe(reason);
  });
});

describe("hostile bytes", () => {
  /** Decodes, or fails with a SteeringError; anything else is a crash. What it does read has exactly these bytes. */
  function survives(bytes: Uint8Array): void {
    let read: VectorVersion;
    try {
      read = decodeVector(bytes);
    } catch (error) {
      expect(error).toBeInstanceOf(SteeringError);
      return;
    }
    expect(encodeVector(read)).toEqual(bytes);
  }

  test("of any kind never crash the reader", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), survives), { numRuns: 500 });
  });

  test("with a plausible length never crash the reader", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 4 }), fc.uint8Array({ maxLength: 64 }), (header, data) => {
        survives(fileOf(header.padEnd(Math.ceil(header.length / 8) * 8), data));
      }),
      { numRuns: 500 },
    );
  });

  test("one byte away from a good file are refused, or are another good file", () => {
    const good = encodeVector(version());
    fc.assert(
      fc.property(fc.nat({ max: good.length - 1 }), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bytes = good.slice();
        bytes[at] = (bytes[at] as number) ^ flip;
        survives(bytes);
        expect(versionDigest(bytes)).not.toBe(versionDigest(good));
      }),
      { numRuns: 2000 },
    );
  });

  test("cut from or spliced into a good file are refused", () => {
    const good = encodeVector(version());
    fc.assert(
      fc.property(
        fc.nat({ max: good.length }),
        fc.nat({ max: good.length }),
        fc.uint8Array({ maxLength: 40 }),
        (a, b, middle) => {
          const [from, to] = a < b ? [a, b] : [b, a];
          survives(Uint8Array.from([...good.subarray(0, from), ...middle, ...good.subarray(to)]));
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("with one value of the header replaced by anything never crash the reader", () => {
    const { header, data } = parts();
    const manifest = JSON.parse((JSON.parse(header) as { __metadata__: { manifest: string } }).__metadata__.manifest);
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(manifest)), fc.jsonValue(), (key, value) => {
        survives(
          withManifest({ [key]: Object.is(value, -0) ? 0 : JSON.parse(JSON.stringify(value).replaceAll("-0", "0")) }),
        );
      }),
      { numRuns: 1000 },
    );
    fc.assert(
      fc.property(fc.constantFrom("__metadata__", "direction.10", "__proto__"), fc.jsonValue(), (key, value) => {
        survives(withHeader((h) => Object.defineProperty(h, key, { value, enumerable: true })));
      }),
      { numRuns: 500 },
    );
    expect(data.length).toBe(3 * 16 * 4);
  });

  test("that promise a huge vector are refused for what they hold, without making room for it", () => {
    const layers = Array.from({ length: MAX_LAYER_COUNT }, (_, layer) => layer);
    const change = { hiddenSize: 65_536, layerCount: MAX_LAYER_COUNT };
    const { header } = parts(version({ layers, hidden: 1, change: { layerCount: MAX_LAYER_COUNT } }));
    const promised = JSON.parse(header) as Record<string, unknown>;
    const metadata = promised["__metadata__"] as { manifest: string };
    metadata.manifest = canonicalJson({ ...JSON.parse(metadata.manifest), ...change } as JsonValue);
    const width = 4 * 65_536;
    for (const [i, name] of Object.keys(promised).slice(1).entries()) {
      promised[name] = { dtype: "F32", shape: [65_536], data_offsets: [i * width, (i + 1) * width] };
    }
    const text = JSON.stringify(promised);
    const bytes = fileOf(text.padEnd(Math.ceil(text.length / 8) * 8), new Uint8Array(64));
    const before = process.memoryUsage().arrayBuffers;
    expect(reasonOf(() => decodeVector(bytes))).toBe("VECTOR_FILE_TRUNCATED");
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(8 << 20);
  });
});
