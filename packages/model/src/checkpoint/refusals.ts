import type { z } from "zod";
import { CheckpointError } from "../errors.ts";
import { quote } from "./quote.ts";

/** A field whose value asks for a computation that is not built. */
export function unsupported(field: string, value: unknown, supported: string): CheckpointError {
  return new CheckpointError(
    "CHECKPOINT_UNSUPPORTED",
    `config.json: ${quote(field)} is ${quote(value)}; supported: ${supported}`,
  );
}

/** A field that nobody here knows. */
export function unknownField(file: string, field: string, known: readonly string[]): CheckpointError {
  return new CheckpointError(
    "CHECKPOINT_UNSUPPORTED",
    `${file}: ${quote(field)} is not known and may change what the model computes; supported: ${known.join(", ")}`,
  );
}

/** Values that are out of range or contradict each other. */
export function invalid(what: string): CheckpointError {
  return new CheckpointError("CHECKPOINT_CONFIG_INVALID", `config.json: ${what}`);
}

/**
 * Check a part of a JSON file.
 *
 * @param path - where the part is in the file, dotted; empty for the whole
 * @throws CheckpointError CHECKPOINT_UNSUPPORTED for unknown keys of strict objects and for values that are not among those
 *   listed, CHECKPOINT_CONFIG_INVALID for everything else
 */
export function parseFields<T extends z.ZodType>(schema: T, value: unknown, file: string, path = ""): z.infer<T> {
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  if (issue === undefined) throw new Error("a failed parse has an issue");
  const field = [path, ...issue.path].filter((part) => part !== "").join(".");
  if (issue.code === "unrecognized_keys") {
    const known = "shape" in schema ? Object.keys(schema.shape as object) : [];
    throw unknownField(file, [field, issue.keys[0]].filter((part) => part !== "").join("."), known);
  }
  if (issue.code === "invalid_value" && issue.input !== undefined) {
    throw unsupported(field, issue.input, issue.values.map((one) => JSON.stringify(one)).join(", "));
  }
  throw new CheckpointError(
    "CHECKPOINT_CONFIG_INVALID",
    `${file}: "${field}" is ${quote(issue.input)}: ${issue.message}`,
  );
}
