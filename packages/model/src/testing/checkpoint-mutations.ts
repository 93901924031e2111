import fc from "fast-check";

/** Contents of a checkpoint's files, by name. */
export type CheckpointContents = ReadonlyMap<string, Buffer>;

/** A change to a checkpoint, described by plain data so that it can be repeated and shrunk. */
export type CheckpointMutation =
  | {
      readonly kind: "bytes";
      readonly file: number;
      readonly at: number;
      readonly edit: ByteEdit;
      readonly data: number[];
    }
  | {
      readonly kind: "header";
      readonly file: number;
      readonly a: number;
      readonly b: number;
      readonly edit: HeaderEdit;
    }
  | { readonly kind: "index"; readonly a: number; readonly b: number; readonly edit: IndexEdit }
  | { readonly kind: "config"; readonly field: string; readonly value: unknown }
  | {
      readonly kind: "files";
      readonly a: number;
      readonly b: number;
      readonly edit: "drop" | "empty" | "copy" | "swap";
    };

/** Those that keep the length come twice: the others are noticed wherever they are. */
const BYTE_EDITS = ["set", "set", "flip", "flip", "zero", "zero", "cut", "insert", "repeat", "truncate"] as const;
type ByteEdit = (typeof BYTE_EDITS)[number];

/** Numbers that sizes and positions are tried with. */
const numbers = fc.oneof(fc.integer({ min: -4, max: 5000 }), fc.constantFrom(2 ** 31, 2 ** 53, 1e300, 0.5, "4", null));

const HEADER_EDITS = ["swap", "rename", "copy", "drop", "field", "share", "twice", "append"] as const;
type HeaderEdit =
  | { readonly how: (typeof HEADER_EDITS)[number] }
  | { readonly how: "dtype"; readonly dtype: unknown }
  | { readonly how: "number"; readonly field: "shape" | "data_offsets"; readonly at: number; readonly value: unknown };

const headerEdit: fc.Arbitrary<HeaderEdit> = fc.oneof(
  fc.record({ how: fc.constantFrom(...HEADER_EDITS) }),
  fc.record({
    how: fc.constant("dtype" as const),
    dtype: fc.constantFrom("F32", "F16", "BF16", "I32", "F64", "I8", "F8_E4M3", "f32", null, 4, ["F32"]),
  }),
  fc.record({
    how: fc.constant("number" as const),
    field: fc.constantFrom("shape" as const, "data_offsets" as const),
    at: fc.nat(1),
    value: numbers,
  }),
);

/** Files that a mutated index may name; the numbers mean a file that is there. */
const places = [
  "../model.safetensors",
  "/etc/passwd",
  ".",
  "",
  "config.json",
  "pytorch_model.bin",
  null,
  7,
  ["a"],
  0,
  1,
];
type IndexEdit =
  | { readonly how: "place"; readonly place: (typeof places)[number] }
  | { readonly how: "swap" | "drop" | "add" | "twice" | "empty" | "remove" | "size" };

const indexEdit: fc.Arbitrary<IndexEdit> = fc.oneof(
  fc.record({ how: fc.constant("place" as const), place: fc.constantFrom(...places) }),
  fc.record({ how: fc.constantFrom("swap", "drop", "add", "twice", "empty", "remove", "size") }),
);

/** @param fields - names in config.json that are changed; others are made up */
export function checkpointMutation(fields: readonly string[]): fc.Arbitrary<CheckpointMutation> {
  const pick = fc.nat(1000);
  return fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("bytes" as const),
        file: pick,
        // The first bytes of a file say what the others are.
        at: fc.oneof(fc.nat(15), fc.nat(1500), { weight: 2, arbitrary: fc.nat(100_000) }),
        edit: fc.constantFrom(...BYTE_EDITS),
        data: fc.array(fc.nat(255), { minLength: 1, maxLength: 16 }),
      }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant("header" as const), file: pick, a: pick, b: pick, edit: headerEdit }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("index" as const), a: pick, b: pick, edit: indexEdit }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("config" as const),
        field: fc.oneof(fc.constantFrom(...fields), fc.string({ maxLength: 12 })),
        value: fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.integer({ min: 0, max: 700 }), numbers),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("files" as const),
        a: pick,
        b: pick,
        edit: fc.constantFrom("drop", "empty", "copy", "swap"),
      }),
    },
  );
}

/** @returns the mutated contents; files that are not changed are the same buffers */
export function mutateCheckpoint(contents: CheckpointContents, mutation: CheckpointMutation): Map<string, Buffer> {
  const files = new Map(contents);
  const choose = (from: readonly string[], index: number) => from[index % from.length] as string;
  const names = [...files.keys()];
  const weights = names.filter((name) => name.endsWith(".safetensors"));
  switch (mutation.kind) {
    case "bytes": {
      const name = choose(names, mutation.file);
      files.set(name, editBytes(files.get(name) as Buffer, mutation));
      break;
    }
    case "header": {
      if (weights.length === 0) break;
      const name = choose(weights, mutation.file);
      files.set(name, editHeader(files.get(name) as Buffer, mutation));
      break;
    }
    case "index": {
      const index = files.get(INDEX) ?? indexOf(contents, weights);
      if (index !== undefined) files.set(INDEX, editIndex(index, weights, mutation));
      break;
    }
    case "config": {
      const config = parse(files.get("config.json"));
      if (config !== undefined) files.set("config.json", json({ ...config, [mutation.field]: mutation.value }));
      break;
    }
    case "files": {
      const [a, b] = [choose(names, mutation.a), choose(names, mutation.b)];
      const [left, right] = [files.get(a) as Buffer, files.get(b) as Buffer];
      if (mutation.edit === "drop") files.delete(a);
      else if (mutation.edit === "empty") files.set(a, Buffer.alloc(0));
      else files.set(a, right);
      if (mutation.edit === "swap") files.set(b, left);
    }
  }
  return files;
}

const INDEX = "model.safetensors.index.json";

function editBytes(bytes: Buffer, { at, edit, data }: Extract<CheckpointMutation, { kind: "bytes" }>): Buffer {
  const from = bytes.byteLength === 0 ? 0 : at % bytes.byteLength;
  const [before, after] = [bytes.subarray(0, from), bytes.subarray(from)];
  const length = data.length;
  switch (edit) {
    case "set":
      return Buffer.concat([before, Uint8Array.from(data), after.subarray(length)]);
    case "flip":
      return Buffer.concat([before, after.subarray(0, 1).map((byte) => byte ^ (1 << (length & 7))), after.subarray(1)]);
    case "cut":
      return Buffer.concat([before, after.subarray(length)]);
    case "insert":
      return Buffer.concat([before, Uint8Array.from(data), after]);
    case "repeat":
      return Buffer.concat([before, after.subarray(0, 8 * length), after]);
    case "truncate":
      return before;
    case "zero":
      return Buffer.concat([before, Buffer.alloc(Math.min(length, after.byteLength)), after.subarray(length)]);
  }
}

/** Changes a header that stays JSON, with its length right. */
function editHeader(bytes: Buffer, { a, b, edit }: Extract<CheckpointMutation, { kind: "header" }>): Buffer {
  const end = headerEnd(bytes);
  const header = parse(bytes.subarray(8, end));
  if (header === undefined) return bytes;
  const names = Object.keys(header);
  const [left, right] = [names[a % names.length] ?? "a", names[b % names.length] ?? "b"];
  const entry = { ...(header[left] as Record<string, unknown>) };
  let text: Buffer | undefined;
  let data = bytes.subarray(end);
  switch (edit.how) {
    case "swap":
      [header[left], header[right]] = [header[right], header[left]];
      break;
    case "rename":
      header[`${left}.x`] = header[left];
      delete header[left];
      break;
    case "copy":
      header[right] = entry;
      break;
    case "drop":
      delete header[left];
      break;
    case "share":
      header[left] = { ...entry, data_offsets: (header[right] as Record<string, unknown> | null)?.["data_offsets"] };
      break;
    case "twice":
      text = withKeyTwice(header, left, header[right]);
      break;
    case "append":
      header[`${left}.x`] = { dtype: "F16", shape: [2], data_offsets: [data.byteLength, data.byteLength + 4] };
      data = Buffer.concat([data, Buffer.alloc(4)]);
      break;
    case "field":
      header[left] = { ...entry, x: 1 };
      break;
    case "dtype":
      header[left] = { ...entry, dtype: edit.dtype };
      break;
    case "number": {
      const list = Array.isArray(entry[edit.field]) ? [...(entry[edit.field] as unknown[])] : [];
      list[edit.at] = edit.value;
      header[left] = { ...entry, [edit.field]: list };
    }
  }
  text ??= json(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.byteLength));
  return Buffer.concat([length, text, data]);
}

function editIndex(
  bytes: Buffer,
  weights: readonly string[],
  { a, b, edit }: Extract<CheckpointMutation, { kind: "index" }>,
): Buffer {
  const index = parse(bytes);
  if (typeof index?.["weight_map"] !== "object") return bytes;
  const map = { ...(index["weight_map"] as Record<string, unknown>) };
  const names = Object.keys(map);
  const [left, right] = [names[a % names.length] ?? "a", names[b % names.length] ?? "b"];
  switch (edit.how) {
    case "place":
      map[left] = typeof edit.place === "number" ? (weights[edit.place] ?? edit.place) : edit.place;
      break;
    case "swap":
      [map[left], map[right]] = [map[right], map[left]];
      break;
    case "drop":
      delete map[left];
      break;
    case "add":
      map[`${left}.x`] = map[right];
      break;
    case "twice":
      return Buffer.from(`{"weight_map":${withKeyTwice(map, left, map[right])}}`);
    case "empty":
      return json({ ...index, weight_map: {} });
    case "remove":
      return json({ metadata: index["metadata"] });
    case "size":
      return json({ ...index, metadata: { total_size: a } });
  }
  return json({ ...index, weight_map: map });
}

/** The index that a checkpoint in one file could have. */
function indexOf(contents: CheckpointContents, weights: readonly string[]): Buffer | undefined {
  const [name] = weights;
  const bytes = name === undefined ? undefined : contents.get(name);
  if (bytes === undefined) return undefined;
  const header = parse(bytes.subarray(8, headerEnd(bytes))) ?? {};
  const tensors = Object.keys(header).filter((tensor) => tensor !== "__metadata__");
  return json({ metadata: {}, weight_map: Object.fromEntries(tensors.map((tensor) => [tensor, name])) });
}

function headerEnd(bytes: Buffer): number {
  return bytes.byteLength < 8 ? 0 : 8 + Number(bytes.readBigUInt64LE(0) % 100_000n);
}

function parse(bytes: Buffer | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse((bytes ?? Buffer.alloc(0)).toString());
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The object, with a value more for one of its keys, before the others. */
function withKeyTwice(object: Record<string, unknown>, key: string, value: unknown): Buffer {
  const others = JSON.stringify(object).slice(1);
  return Buffer.from(`{${JSON.stringify(key)}:${JSON.stringify(value ?? null)},${others}`);
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}
