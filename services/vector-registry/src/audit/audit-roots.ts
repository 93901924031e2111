import type { AuditSigningKey } from "@persona-mesh/audit";
import { type Logger, ServiceError } from "@persona-mesh/service";
import type { Kysely } from "kysely";
import type { Database } from "../database/schema.ts";
import { copyRoots } from "./copy-roots.ts";
import { OutsideRoots } from "./outside-roots.ts";
import {
  type AuditTx,
  databaseTime,
  lockRoots,
  newestRoot,
  publishKey,
  type RootHeads,
  tryLockRoots,
} from "./root-store.ts";
import { signHeads } from "./sign-round.ts";

export interface AuditRootsOptions {
  /** Connected as persona_auditor. */
  readonly db: Kysely<Database>;
  readonly key: AuditSigningKey;
  /** Where roots are kept outside the database. */
  readonly rootsFile: string;
  /** Between two looks at the heads, in milliseconds: entries younger than this are under no root. @default 1000 */
  readonly intervalMs?: number;
  /**
   * Go on although the database lost the roots up to this number, which must be the newest in the file. The file is kept
   * aside, and what the database has is signed from then on.
   */
  readonly acceptLostRoots?: bigint | undefined;
  readonly log: Logger;
}

/** How signing goes. */
export type AuditRootsState =
  | { readonly kind: "signing" }
  /** A round failed; the next one tries again. */
  | { readonly kind: "failing"; readonly error: unknown }
  /** The database is not what was signed: nothing more is, until it is again. */
  | { readonly kind: "diverged"; readonly error: ServiceError }
  | { readonly kind: "closed" };

/**
 * Signs the heads of the audit's chains, and keeps the roots outside the database too. Every replica has one; they take
 * turns under a lock, and each copies the roots of the others to its own file.
 *
 * A root goes to the file after its commit, never before: were it there first and the commit lost, another replica would sign
 * another root under its number, and an honest crash would look like a forged history. What falls between commit and file is
 * copied by the next round.
 */
export class AuditRoots implements AsyncDisposable {
  readonly #options: AuditRootsOptions;
  readonly #outside: OutsideRoots;
  #state: AuditRootsState = { kind: "signing" };
  #heads: RootHeads | undefined;
  #newest = 0n;
  #timer: NodeJS.Timeout | undefined;
  /** Ends with the last round that was asked for; rounds follow one another. */
  #rounds: Promise<void> = Promise.resolve();
  /** A round that was asked for and has not begun: it serves whoever asks meanwhile. */
  #next: Promise<void> | undefined;

  private constructor(options: AuditRootsOptions) {
    this.#options = options;
    this.#outside = new OutsideRoots(options.rootsFile);
  }

  /**
   * Compare the file with the database, publish the key, and begin to sign.
   *
   * @throws ServiceError AUDIT_ROOTS_DIVERGED where the database lacks what was signed; what `databaseErrors` maps
   */
  static async open(options: AuditRootsOptions): Promise<AuditRoots> {
    const roots = new AuditRoots(options);
    await publishKey(options.db, options.key);
    await roots.#compare();
    roots.#schedule();
    return roots;
  }

  get state(): AuditRootsState {
    return this.#state;
  }

  /** Number of the newest root that this replica has seen; 0 before the first. */
  get newest(): bigint {
    return this.#newest;
  }

  /** Id of the key that this replica signs with. */
  get keyId(): string {
    return this.#options.key.keyId;
  }

  /**
   * Sign now what moved, after the round that runs already.
   *
   * @throws ServiceError AUDIT_ROOTS_DIVERGED; what the driver says
   */
  sign(): Promise<void> {
    this.#next ??= this.#enqueue("wait", () => {
      this.#next = undefined;
    });
    return this.#next;
  }

  /** Sign what stands unsigned, and stop. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state.kind === "closed") return;
    clearTimeout(this.#timer);
    try {
      await this.sign();
    } catch (error) {
      this.#options.log.warn({ err: error }, "the newest audit entries are not signed at the end");
    }
    this.#state = { kind: "closed" };
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    this.#timer = setTimeout(async () => {
      // What went wrong is in the state, and logged.
      await this.#enqueue("skip").catch(() => {});
      if (this.#state.kind !== "closed") this.#schedule();
    }, this.#options.intervalMs ?? 1_000);
    this.#timer.unref();
  }

  #enqueue(busy: "wait" | "skip", onStart?: () => void): Promise<void> {
    const round = this.#rounds.then(() => {
      onStart?.();
      return this.#round(busy);
    });
    this.#rounds = round.catch(() => {});
    return round;
  }

  /** @param busy - what to do while another replica signs */
  async #round(busy: "wait" | "skip"): Promise<void> {
    if (this.#state.kind === "closed") return;
    try {
      const outcome = await this.#signOnce(busy);
      // Another replica's turn says nothing of how this one fares.
      if (outcome === "busy") return;
      if (outcome === "signed") await this.#locked("wait", (tx) => copyRoots(tx, this.#outside));
      this.#become({ kind: "signing" });
    } catch (error) {
      // What is in memory may be ahead of what was committed.
      this.#heads = undefined;
      this.#become(isDiverged(error) ? { kind: "diverged", error } : { kind: "failing", error });
      throw error;
    }
  }

  async #signOnce(busy: "wait" | "skip"): Promise<"signed" | "unmoved" | "busy"> {
    const result = await this.#locked(busy, async (tx) => {
      const { newest } = await copyRoots(tx, this.#outside);
      return signHeads(tx, this.#options.key, newest, this.#heads);
    });
    if (result === undefined) return "busy";
    this.#heads = result.heads;
    this.#newest = result.heads.number;
    return result.root === undefined ? "unmoved" : "signed";
  }

  #locked<T>(busy: "wait" | "skip", work: (tx: AuditTx) => Promise<T>): Promise<T | undefined> {
    return this.#options.db.transaction().execute(async (tx) => {
      if (busy === "wait") await lockRoots(tx);
      else if (!(await tryLockRoots(tx))) return undefined;
      return work(tx);
    });
  }

  /** At the start: copy what others signed, or refuse, or take the loss that an operator accepts. */
  async #compare(): Promise<void> {
    const { acceptLostRoots, log } = this.#options;
    await this.#locked("wait", async (tx) => {
      const { copied, newest } = await this.#copyOrAccept(tx, acceptLostRoots);
      this.#newest = newest?.number ?? 0n;
      if (copied > 0)
        log.info({ roots: copied, file: this.#outside.path }, "audit roots were copied out of the database");
      log.info({ root: String(this.#newest), keyId: this.keyId }, "audit roots agree with the database");
    });
  }

  async #copyOrAccept(tx: AuditTx, acceptLostRoots: bigint | undefined) {
    try {
      return await copyRoots(tx, this.#outside);
    } catch (error) {
      if (!isDiverged(error) || acceptLostRoots === undefined) throw error;
      const lost = await this.#outside.newest();
      if (lost?.number !== acceptLostRoots) throw error;
      const file = await this.#outside.setAside(await databaseTime(tx));
      const kept = await newestRoot(tx);
      this.#options.log.error(
        { err: error, file, lost: String(lost.number), kept: String(kept?.number ?? 0n) },
        "audit roots are lost, as acceptLostAuditRoots allows: the roots that were kept outside are set aside as evidence",
      );
      return copyRoots(tx, this.#outside);
    }
  }

  #become(state: AuditRootsState): void {
    const { log } = this.#options;
    const before = this.#state;
    if (before.kind === "closed") return;
    this.#state = state;
    if (before.kind === state.kind) return;
    if (state.kind === "signing") log.info("audit roots are signed again");
    else if (state.kind === "diverged")
      log.error({ err: state.error }, "the audit is not what was signed: nothing more is");
    else if (state.kind === "failing") log.warn({ err: state.error }, "audit roots cannot be signed at the moment");
  }
}

function isDiverged(error: unknown): error is ServiceError {
  return error instanceof ServiceError && error.reason === "AUDIT_ROOTS_DIVERGED";
}
