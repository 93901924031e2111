import { createHash } from "node:crypto";

/** What is signed: the heads of all chains at one time. */
export interface RootBody {
  /** From 1, without gaps. */
  readonly number: bigint;
  /** By the database's clock, as Date.toISOString writes it. */
  readonly time: string;
  /** Over the heads of all chains, sha256 hex. */
  readonly merkleRoot: string;
  readonly leafCount: number;
  /** {@link rootHash} of the root before; {@link NO_ROOT} for the first. */
  readonly previousRoot: string;
}

/** A root with its signature. */
export interface SignedRoot {
  readonly number: bigint;
  /** The bytes that are signed, as UTF-8. */
  readonly body: string;
  /** Ed25519, 64 bytes. */
  readonly signature: Uint8Array;
  readonly keyId: string;
}

/** What the first root names as its predecessor. */
export const NO_ROOT = "0".repeat(64);

/** Canonical JSON (RFC 8785) of a body; 64-bit numbers are strings, as in the JSON of protobuf. */
export function encodeRootBody({ number, time, merkleRoot, leafCount, previousRoot }: RootBody): string {
  // In the order of the keys.
  return JSON.stringify({ leafCount, merkleRoot, number: String(number), previousRoot, time });
}

/** @returns undefined for anything that {@link encodeRootBody} does not write */
export function decodeRootBody(text: string): RootBody | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof parsed !== "object" || parsed === null) return undefined;
  const { leafCount, merkleRoot, number, previousRoot, time } = parsed as Record<string, unknown>;
  if (typeof leafCount !== "number" || !Number.isSafeInteger(leafCount) || leafCount < 0) return undefined;
  if (typeof number !== "string" || !/^[1-9][0-9]{0,18}$/.test(number)) return undefined;
  if (!isSha256(merkleRoot) || !isSha256(previousRoot)) return undefined;
  if (typeof time !== "string" || !isTime(time)) return undefined;
  const body = { leafCount, merkleRoot, number: BigInt(number), previousRoot, time };
  return encodeRootBody(body) === text ? body : undefined;
}

function isSha256(value: unknown): value is string {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

function isTime(text: string): boolean {
  const time = new Date(text);
  return !Number.isNaN(time.getTime()) && time.toISOString() === text;
}

/** What the next root names this one by: sha256 of the body, lower-case hex. */
export function rootHash(body: string): string {
  return createHash("sha256").update(body, "utf8").digest("hex");
}
