import { createHash } from "node:crypto";

/** A tenant's chains of entries. */
export const AUDIT_CHAINS = ["CHANGES", "READS"] as const;
export type AuditChainName = (typeof AUDIT_CHAINS)[number];

/** What the first entry of a chain names as its predecessor, and the hash of a chain without entries. */
export const NO_ENTRY = "0".repeat(64);

/** One entry, as an export has it. */
export interface ChainEntry {
  readonly chain: AuditChainName;
  /** From 1, without gaps. */
  readonly sequence: bigint;
  /** JSON; its bytes are hashed as they stand. */
  readonly payload: string;
  /** sha256, lower-case hex. */
  readonly previousHash: string;
  /** sha256, lower-case hex. */
  readonly hash: string;
}

/** The newest entry of a chain. */
export interface ChainHead {
  readonly tenant: string;
  readonly chain: AuditChainName;
  /** 0 where the chain has no entries; `hash` is then {@link NO_ENTRY}. */
  readonly sequence: bigint;
  readonly hash: string;
}

/**
 * The hash that links an entry to its chain: the function `link_audit` of the registry's schema computes the same.
 *
 * @returns sha256 over sequence, previous hash and payload, a line each; lower-case hex
 */
export function entryHash(sequence: bigint, previousHash: string, payload: string): string {
  return createHash("sha256").update(`${sequence}\n${previousHash}\n${payload}`, "utf8").digest("hex");
}
