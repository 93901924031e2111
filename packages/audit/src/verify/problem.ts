import type { AuditChainName } from "../chain.ts";

/** What is wrong with an entry or with what stands in its place. */
export type EntryReason =
  /** Its content is not what its hash, or the root over it, says. */
  | "ENTRY_CHANGED"
  /** It does not continue the entry before it. */
  | "ENTRY_UNLINKED"
  /** It is not there: a later one stands in its place, or the chain ends before it although a root covers it. */
  | "ENTRY_MISSING"
  /** An earlier one stands in its place. */
  | "ENTRY_REPEATED";

/** What is wrong with a root or with a proof under it. */
export type RootReason =
  /** Its body is none, or its fields say otherwise than its body. */
  | "ROOT_MALFORMED"
  /** Its signature is not of its key. */
  | "ROOT_SIGNATURE"
  /** Its key is not one of the trusted ones. */
  | "ROOT_UNTRUSTED"
  /** Two roots have its number. */
  | "ROOT_FORKED"
  /** It names another predecessor than the one that is there. */
  | "ROOT_UNLINKED"
  /** It is kept outside and is not in the export, or the export has none at all. */
  | "ROOT_MISSING"
  /** A proof under it does not lead to it: another tenant's, another chain's, or changed. */
  | "INCLUSION_INVALID"
  /** The newest root comes without the proof for a chain. */
  | "INCLUSION_MISSING";

/** What is wrong with the file. */
export type FileReason =
  /** A line is none of an export, or stands where it does not belong. */
  | "FORMAT"
  /** The export is another tenant's than was asked for. */
  | "TENANT"
  /** A key is none, or not the one that its id names. */
  | "KEY";

export interface AuditProblem {
  readonly reason: EntryReason | RootReason | FileReason;
  /** For people. */
  readonly message: string;
  readonly chain?: AuditChainName;
  /** The first entry of the chain that is not proven. */
  readonly sequence?: bigint;
  /** Number of the root. */
  readonly root?: bigint;
  /** Line in the export, from 1. */
  readonly line?: number;
}

/** The first entry of a chain that is not as it was written. */
export interface BadEntry extends AuditProblem {
  readonly reason: EntryReason;
  readonly chain: AuditChainName;
  readonly sequence: bigint;
}

/** Problems that are kept; further ones are only counted. */
const MAX_PROBLEMS = 100;

export class Problems {
  readonly shown: AuditProblem[] = [];
  count = 0;

  add(problem: AuditProblem): void {
    this.count++;
    if (this.shown.length < MAX_PROBLEMS) this.shown.push(problem);
  }
}
