import { decodeRootBody, type RootBody, type SignedRoot } from "./root.ts";

/** Longest line of a file of roots, in characters; a root has about 400. */
const MAX_LINE_LENGTH = 4096;

/** A root as a line, without its end, of the file that is kept outside the database. */
export function encodeRootLine({ number, body, signature, keyId }: SignedRoot): string {
  const encoded = Buffer.from(signature).toString("base64");
  return JSON.stringify({ number: String(number), body, signature: encoded, keyId });
}

/** @returns undefined for anything that {@link encodeRootLine} does not write of a well-formed root */
export function decodeRootLine(line: string): (SignedRoot & { readonly content: RootBody }) | undefined {
  if (line.length > MAX_LINE_LENGTH) return undefined;
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof parsed !== "object" || parsed === null) return undefined;
  const { number, body, signature, keyId } = parsed as Record<string, unknown>;
  if (typeof body !== "string" || typeof signature !== "string" || typeof keyId !== "string") return undefined;
  const content = decodeRootBody(body);
  if (content === undefined || number !== String(content.number)) return undefined;
  const root = { number: content.number, body, signature: Buffer.from(signature, "base64"), keyId };
  return encodeRootLine(root) === line ? { ...root, content } : undefined;
}
