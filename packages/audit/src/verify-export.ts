import type { AuditEntry, AuditExportHeader, ExportAuditResponse } from "@persona-mesh/protocol/registry";
import type { AuditChainName, ChainEntry } from "./chain.ts";
import { chainName, decodeExportLine, EXPORT_FORMAT_VERSION } from "./export-format.ts";
import type { AuditPublicKey } from "./keys.ts";
import { ChainCheck } from "./verify/chain-check.ts";
import { compareOutside, type OutsideRoots } from "./verify/outside-roots.ts";
import { type AuditProblem, type BadEntry, Problems } from "./verify/problem.ts";
import { RootsCheck } from "./verify/roots-check.ts";

export interface VerifyOptions {
  /** The tenant whose export it must be, by id. Unset: whoever the header names. */
  readonly tenant?: string;
  /**
   * Keys that the verifier got elsewhere than from the export. Unset: the keys in the export are used, which proves nothing
   * against whoever made the export; a warning says so.
   */
  readonly trustedKeys?: readonly AuditPublicKey[];
  /** Lines of the file of roots that is kept outside the database. */
  readonly trustedRoots?: AsyncIterable<string> | Iterable<string>;
}

export type AuditWarning =
  /** Roots were verified with keys out of the export itself. */
  | "KEYS_NOT_TRUSTED"
  /** No roots kept outside were given: a whole database put back to an earlier state does not show. */
  | "NO_OUTSIDE_ROOTS"
  /** Roots that are kept outside are newer than the export: it says nothing of what came after it. */
  | "EXPORT_OLDER"
  /** Entries after the newest root are covered by no signature yet. */
  | "UNSIGNED_TAIL";

export interface ChainReport {
  /** Entries in the export. */
  readonly entries: bigint;
  /** Entries from the first on that are unchanged and covered by a root. */
  readonly proven: bigint;
  /** Entries after the newest root: unbroken in themselves, signed by nobody. 0 for a chain with a bad entry. */
  readonly unsigned: bigint;
}

export interface ExportReport {
  /** No problem was found. What that proves depends on the warnings. */
  readonly ok: boolean;
  /** As the header names it. */
  readonly tenant: string;
  /** When the export was made, as its header says; signed by nobody. */
  readonly createTime: Date | undefined;
  readonly chains: Readonly<Record<AuditChainName, ChainReport>>;
  /** Number and time of the newest root. */
  readonly newestRoot: { readonly number: bigint; readonly time: string } | undefined;
  /** Roots that were verified. */
  readonly roots: number;
  /** The first bad entry: of CHANGES, else of READS. */
  readonly firstBad: BadEntry | undefined;
  /** At most 100 of them. */
  readonly problems: readonly AuditProblem[];
  readonly problemCount: number;
  readonly warnings: readonly AuditWarning[];
}

/**
 * Verify one tenant's export, offline. Memory grows with the roots in it, not with the entries.
 *
 * @param lines - as {@link readLines} gives them
 * @throws Error where a trusted key is none; whatever the iterables throw
 */
export async function verifyExport(
  lines: AsyncIterable<string> | Iterable<string>,
  options: VerifyOptions = {},
): Promise<ExportReport> {
  const verification = new Verification(options);
  for await (const line of lines) await verification.take(line);
  return verification.end();
}

/** Parts of an export, in their order. */
const PARTS = ["header", "key", "root", "CHANGES", "READS"] as const;

class Verification {
  readonly #options: VerifyOptions;
  readonly #problems = new Problems();
  #line = 0;
  /** Index into {@link PARTS}. */
  #part = 0;
  #header: { readonly tenant: string; readonly createTime: Date | undefined } | undefined;
  #roots: RootsCheck;
  #outside: OutsideRoots | undefined;
  #chains: Readonly<Record<AuditChainName, ChainCheck>> | undefined;

  constructor(options: VerifyOptions) {
    this.#options = options;
    this.#roots = new RootsCheck("", options.trustedKeys, this.#problems);
  }

  async take(text: string): Promise<void> {
    this.#line++;
    const item = decodeExportLine(text)?.item;
    const part = item?.case === undefined ? -1 : PARTS.indexOf(partOf(item));
    if (item?.case === undefined || part < 0) {
      this.#malformed("is no line of an export");
      return;
    }
    if (part < this.#part) this.#malformed("stands where it does not belong");
    this.#part = Math.max(part, this.#part);
    if (item.case === "header") this.#takeHeader(item.value);
    else if (item.case === "key") this.#roots.key(item.value);
    else if (item.case === "root") this.#roots.root(item.value);
    else if (item.case === "inclusion") this.#roots.inclusion(item.value);
    else await this.#takeEntry(item.value);
  }

  async end(): Promise<ExportReport> {
    const chains = await this.#endRoots();
    if (this.#header === undefined) this.#problems.add({ reason: "FORMAT", message: "the export has no header" });
    for (const chain of Object.values(chains)) {
      chain.end();
      if (chain.bad !== undefined) this.#problems.add(chain.bad);
    }
    const { count, shown } = this.#problems;
    const { hashes, newest } = this.#roots;
    const reports = { CHANGES: reportOf(chains.CHANGES), READS: reportOf(chains.READS) };
    return {
      ok: count === 0,
      tenant: this.#header?.tenant ?? "",
      createTime: this.#header?.createTime,
      chains: reports,
      newestRoot: newest && { number: newest.number, time: newest.time },
      roots: hashes.size,
      firstBad: chains.CHANGES.bad ?? chains.READS.bad,
      problems: shown,
      problemCount: count,
      warnings: this.#warnings(reports),
    };
  }

  #takeHeader({ formatVersion, tenant, createTime }: AuditExportHeader): void {
    if (this.#header !== undefined) {
      this.#malformed("is a second header");
      return;
    }
    if (formatVersion !== EXPORT_FORMAT_VERSION)
      this.#malformed(`says format ${formatVersion}, not ${EXPORT_FORMAT_VERSION}`);
    if (createTime === undefined) this.#malformed("does not say when the export was made");
    const time = createTime && new Date(Number(createTime.seconds) * 1000 + createTime.nanos / 1e6);
    this.#header = { tenant, createTime: time };
    this.#roots = new RootsCheck(tenant, this.#options.trustedKeys, this.#problems);
    const wanted = this.#options.tenant;
    if (wanted === undefined || wanted === tenant) return;
    this.#problems.add({
      reason: "TENANT",
      message: `the export is of tenant "${tenant.slice(0, 64)}", not of "${wanted}"`,
    });
  }

  async #takeEntry(entry: AuditEntry): Promise<void> {
    const chain = chainName(entry.chain) as AuditChainName;
    const { hash, payload, previousHash, sequence } = entry;
    const taken: ChainEntry = { chain, hash, payload, previousHash, sequence };
    (this.#chains ?? (await this.#endRoots()))[chain].next(taken);
  }

  /** The roots are complete: with the first entry, or with the end. */
  async #endRoots(): Promise<Readonly<Record<AuditChainName, ChainCheck>>> {
    if (this.#chains !== undefined) return this.#chains;
    this.#roots.end();
    const { trustedRoots } = this.#options;
    if (trustedRoots !== undefined) {
      this.#outside = await compareOutside(trustedRoots, this.#roots.hashes, this.#problems);
      this.#requireNewest(this.#outside);
    }
    const { CHANGES, READS } = this.#roots.checkpoints;
    this.#chains = { CHANGES: new ChainCheck("CHANGES", CHANGES), READS: new ChainCheck("READS", READS) };
    return this.#chains;
  }

  /** What was signed before the export was made is in it: else the newest entries were cut off, roots and all. */
  #requireNewest({ newest }: OutsideRoots): void {
    const { reached } = this.#roots;
    const made = this.#header?.createTime;
    if (newest === undefined || newest.number <= reached || made === undefined || new Date(newest.time) > made) return;
    const { number, time } = newest;
    const message = `root ${number} was signed at ${time} and is kept outside; the export, made later, ends with root ${reached}`;
    this.#problems.add({ reason: "ROOT_MISSING", root: number, message });
  }

  #warnings({ CHANGES, READS }: Record<AuditChainName, ChainReport>): AuditWarning[] {
    const { newest, unvouched } = this.#roots;
    const warnings: AuditWarning[] = [];
    const confirmed = this.#outside?.confirmed;
    if ([...unvouched].some((number) => !confirmed?.has(number))) warnings.push("KEYS_NOT_TRUSTED");
    if (this.#outside === undefined) warnings.push("NO_OUTSIDE_ROOTS");
    if ((this.#outside?.newest?.number ?? 0n) > (newest?.number ?? 0n)) warnings.push("EXPORT_OLDER");
    if (CHANGES.unsigned + READS.unsigned > 0n) warnings.push("UNSIGNED_TAIL");
    return warnings;
  }

  #malformed(what: string): void {
    this.#problems.add({ reason: "FORMAT", line: this.#line, message: `line ${this.#line} ${what}` });
  }
}

type Item = Exclude<ExportAuditResponse["item"], { case: undefined }>;

function partOf(item: Item): (typeof PARTS)[number] {
  switch (item.case) {
    case "inclusion":
      return "root";
    case "entry":
      return chainName(item.value.chain) as AuditChainName;
    default:
      return item.case;
  }
}

function reportOf({ bad, entries, proven }: ChainCheck): ChainReport {
  return { entries, proven, unsigned: bad === undefined ? entries - proven : 0n };
}
