/** The registry's audit, as anyone can check it: hash chains of entries, Merkle trees over their heads, signed roots, exports. */
export * from "./chain.ts";
export * from "./export-format.ts";
export * from "./keys.ts";
export * from "./merkle.ts";
export * from "./root.ts";
export * from "./root-file.ts";
export type { AuditProblem, BadEntry, EntryReason, FileReason, RootReason } from "./verify/problem.ts";
export * from "./verify-export.ts";
