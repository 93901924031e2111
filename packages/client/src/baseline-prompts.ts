import { z } from "zod";
import { LocalError } from "./local-error.ts";
import type { BaselinePrompt } from "./measure-baseline.ts";

/** Longest text, characters: over any context, so that the server's own limit is what is met first. */
const MAX_TEXT = 1 << 16;

/** As many prompts as a baseline may have replies at a temperature. */
const MAX_PROMPTS = 10_000;

const text = z.string().min(1).max(MAX_TEXT);
const line = z.strictObject({ prompt: text, system: text.optional() });

/**
 * Prompts from JSON lines, `{"prompt", "system"?}` on each; empty lines are skipped.
 *
 * @param where - the file's name, for messages
 * @throws LocalError FILE_INVALID naming the line
 */
export function parsePrompts(content: string, where: string): BaselinePrompt[] {
  const prompts = content.split("\n").flatMap((written, index) => {
    if (written.trim() === "") return [];
    const parsed = line.safeParse(parseLine(written, `${where}, line ${index + 1}`));
    if (parsed.success) return [parsed.data];
    const issue = parsed.error.issues[0];
    const field = issue?.path.join(".") || "the whole";
    throw new LocalError("FILE_INVALID", `${where}, line ${index + 1}, ${field}: ${issue?.message}`);
  });
  if (prompts.length === 0 || prompts.length > MAX_PROMPTS) {
    throw new LocalError("FILE_INVALID", `${where} has ${prompts.length} prompts; it takes 1 to ${MAX_PROMPTS}`);
  }
  return prompts;
}

function parseLine(written: string, where: string): unknown {
  try {
    return JSON.parse(written);
  } catch (error) {
    throw new LocalError("FILE_INVALID", `${where} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}
