import { join } from "node:path";
import type { Logger } from "@persona-mesh/service";
import { LocalCache } from "./cache/local-cache.ts";
import { ContactClock } from "./contact-clock.ts";
import { KeptOut } from "./kept-out.ts";
import type { LoadingModel } from "./load-revision.ts";
import {
  type Picture,
  type RevokedVersion,
  revisionsOf,
  revocationsOf,
  type TenantPicture,
  type Update,
  updated,
} from "./picture.ts";
import { PictureKeeper } from "./picture-keeper.ts";
import { mayPass, type Problem } from "./problem.ts";
import { RegistryCatalog } from "./registry-catalog.ts";
import { RegistryConnection, type RegistryTarget } from "./registry-connection.ts";
import { problemsOf, type SourceState } from "./source-state.ts";
import { TenantLoader } from "./tenant-loader.ts";
import { type NeededVersion, VersionContents } from "./version-contents.ts";
import { WatchClient, type WatchOptions } from "./watch-client.ts";
import { WatchBroken } from "./watch-sequence.ts";
import { WorkerReporter } from "./worker-reporter.ts";

export interface RegistryOptions extends RegistryTarget {
  /** Stable name of this worker. */
  readonly worker: string;
  /** Of all caches: each model and worker has one of its own in it. */
  readonly cacheFolder: string;
  readonly cacheBytes: number;
  /** Told each time the registry is reached anew. */
  readonly onConnected?: () => void;
  readonly watch?: Pick<WatchOptions, "silenceMs" | "backoff">;
  /** How long versions are waited for. @default 10 s */
  readonly patienceMs?: number;
  /** How long after a problem that may pass it is tried again. @default 15 s */
  readonly retryMs?: number;
}

/** Updates that wait while versions are fetched; more make the registry wait. */
const MAX_WAITING = 256;

const RETRY = 15_000;

/** Problems and revocations in one line of the log. */
const MAX_LOGGED = 10;

/** What the pipeline works off, in order. */
type Work =
  | { readonly kind: "update"; readonly update: Update; readonly receivedAt: number }
  | { readonly kind: "bookmark"; readonly revision: bigint }
  /** Load again what was kept out: its bytes may have come. */
  | { readonly kind: "again" };

/**
 * The registry's personas in this worker: follows the registry, loads what it says, puts it in force an update at a time, and
 * keeps it on the disk for a start without the registry.
 *
 * Revocations go ahead of all else: they are on the disk, and act, before the next message is read, whatever still waits for
 * bytes. The rest takes effect in the order of the revisions; where nothing is to be fetched, in the turn of the event loop in
 * which the message came.
 */
export class RegistryPersonas implements AsyncDisposable {
  readonly catalog: RegistryCatalog;
  /** Resolves once there is a whole picture, of the registry or of the cache. */
  readonly ready: Promise<void>;
  readonly #becomeReady: () => void;
  readonly #model: LoadingModel;
  readonly #options: RegistryOptions;
  readonly #log: Logger;
  readonly #clock: ContactClock;
  readonly #cache: LocalCache;
  readonly #connection: RegistryConnection;
  readonly #contents: VersionContents;
  readonly #reporter: WorkerReporter;
  readonly #closing = new AbortController();
  #watch: WatchClient | undefined;
  #picture: Picture | undefined;
  #state: SourceState = { kind: "NOT_READY" };
  #waiting: Work[] = [];
  #working: Promise<void> | undefined;
  readonly #keptOut: KeptOut;
  /** The last attempts to reach the registry that failed, one after the other; 0 while it is heard. */
  #failures = 1;
  #isConnected = false;
  /** An update was lost in a defect of ours: only a snapshot helps. */
  #isLost = false;
  #isDurable = true;
  /** What may be acknowledged. */
  #appliedRevision = 0n;
  #retry: NodeJS.Timeout | undefined;
  readonly #keeper: PictureKeeper;

  /**
   * Go on from the cache, and begin to follow the registry.
   *
   * @throws Error when the cache's folder cannot be used
   */
  static async open(options: RegistryOptions, model: LoadingModel, log: Logger): Promise<RegistryPersonas> {
    const folder = join(options.cacheFolder, model.modelChecksum, options.worker);
    const cache = await LocalCache.open({ folder, maxBytes: options.cacheBytes }, log);
    const personas = new RegistryPersonas(options, model, cache, log);
    await personas.#goOnFromCache();
    personas.#follow();
    return personas;
  }

  private constructor(options: RegistryOptions, model: LoadingModel, cache: LocalCache, log: Logger) {
    this.#options = options;
    this.#model = model;
    this.#cache = cache;
    this.#log = log;
    this.#clock = new ContactClock();
    this.catalog = new RegistryCatalog(() => this.#clock.age());
    this.#keptOut = new KeptOut(this.catalog);
    this.#connection = new RegistryConnection(options);
    const identity = { worker: options.worker, modelChecksum: model.modelChecksum };
    const { patienceMs } = options;
    this.#contents = new VersionContents(
      cache,
      this.#connection,
      { ...identity, ...(patienceMs === undefined ? {} : { patienceMs }) },
      { log, signal: this.#closing.signal },
    );
    this.#reporter = new WorkerReporter(this.#connection, identity, log);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ready = promise;
    this.#becomeReady = resolve;
    this.#keeper = new PictureKeeper(cache, () => ({
      picture: this.#picture,
      revocations: this.catalog.revocations,
      // While another picture is on its way, nobody knows how fresh this one is.
      heardAt: this.#working === undefined && this.#isDurable ? this.#clock.lastHeard : undefined,
    }));
  }

  get state(): SourceState {
    return this.#state;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#retry);
    this.#waiting = [];
    await this.#watch?.[Symbol.asyncDispose]();
    await this.#reporter[Symbol.asyncDispose]();
    this.#connection[Symbol.dispose]();
    await this.#working;
    await this.#keeper[Symbol.asyncDispose]();
    await this.#cache.close();
  }

  async #goOnFromCache(): Promise<void> {
    const { cached, revoked } = this.#cache;
    this.catalog.revoke(revoked);
    if (cached === undefined) return;
    if (!this.#clock.resume(cached.lastContact)) {
      this.#log.error(
        { lastContact: new Date(cached.lastContact) },
        "the clock was set back: how old the cached personas are is unknown, and none is served until the registry has answered",
      );
    }
    await this.#putInForce(cached.picture, new Set(cached.picture.tenants.keys()), false);
    this.#log.info(
      { revision: cached.picture.revision, tenants: cached.picture.tenants.size, ageMs: Math.round(this.#clock.age()) },
      "personas of the cache in force",
    );
  }

  #follow(): void {
    const { modelChecksum } = this.#model;
    const options = { modelChecksum, worker: this.#options.worker, ...this.#options.watch };
    this.#watch = new WatchClient(this.#connection, options, {
      onContact: () => this.#contacted(),
      onUpdate: (update) => this.#take(update),
      onBookmark: (revision) => this.#takeBookmark(revision),
      onLost: (error, retryInMs) => this.#lost(error, retryInMs),
    });
  }

  #contacted(): void {
    this.#failures = 0;
    if (this.#isConnected) return;
    this.#isConnected = true;
    this.#log.info("the registry is heard");
    this.#options.onConnected?.();
    if (this.#picture !== undefined) this.#tell();
  }

  #lost(error: unknown, retryInMs: number): void {
    this.#failures++;
    const silence = this.#options.watch?.silenceMs ?? 15_000;
    // Streams end for good reasons too, and the next one is there at once.
    const isStale = this.#failures > 1 || this.#clock.age() >= silence;
    // Once, not at every attempt.
    const isNews = isStale && (this.#isConnected || this.#failures === 2);
    this.#log[isNews ? "warn" : "debug"]({ err: error, retryInMs: Math.round(retryInMs) }, "the watch was lost");
    if (!isStale) return;
    this.#isConnected = false;
    this.#tell();
  }

  /** @throws WatchBroken where an update was lost on our side */
  #requireWhole(): void {
    if (!this.#isLost) return;
    this.#isLost = false;
    throw new WatchBroken("an update could not be put in force");
  }

  async #take(update: Update): Promise<void> {
    this.#requireWhole();
    const receivedAt = performance.now();
    this.#clock.heard();
    await this.#revoke(update);
    // What came before a snapshot is void.
    if (update.kind === "snapshot") this.#waiting = [];
    const worked = this.#enqueue({ kind: "update", update, receivedAt });
    if (this.#waiting.length >= MAX_WAITING) await worked;
  }

  async #takeBookmark(revision: bigint): Promise<void> {
    this.#requireWhole();
    this.#clock.heard();
    if (!this.#isDurable) await this.#remember([]);
    // One says what the one before it said.
    if (this.#waiting.at(-1)?.kind === "bookmark") this.#waiting.pop();
    void this.#enqueue({ kind: "bookmark", revision });
  }

  /** What is revoked is on the disk first, then it acts: who sees it act will not see it served again. */
  async #revoke(update: Update): Promise<void> {
    const revoked = revocationsOf(update).filter((each) => !this.catalog.isRevoked(each));
    if (revoked.length > 0 || !this.#isDurable || update.kind === "snapshot") {
      await this.#remember(revoked);
    }
    if (revoked.length === 0) return;
    // Where it could not be written too: not serving it is more than remembering.
    this.catalog.revoke(revoked);
    this.#keptOut.look(new Set(revoked.map(({ tenant }) => tenant)));
    this.#log.warn(
      {
        revocations: revoked.length,
        revoked: revoked.slice(0, MAX_LOGGED),
        revision: update.revision,
        isDurable: this.#isDurable,
      },
      "versions revoked",
    );
  }

  async #remember(revoked: readonly RevokedVersion[]): Promise<void> {
    const was = this.#isDurable;
    this.#isDurable = await this.#cache.revoke(revoked);
    if (this.#isDurable === was) return;
    // The picture on the disk was deleted in the meantime.
    this.#keeper.outdate();
    if (this.#picture === undefined) return;
    this.#tell();
  }

  /** @returns when all that waits is worked off */
  #enqueue(work: Work): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.resolve();
    this.#waiting.push(work);
    this.#working ??= this.#workOff().finally(() => {
      this.#working = undefined;
    });
    return this.#working;
  }

  async #workOff(): Promise<void> {
    for (let work = this.#waiting.shift(); work !== undefined; work = this.#waiting.shift()) {
      try {
        await this.#work(work);
      } catch (error) {
        // A defect of ours. Nothing was put in force by halves; what follows would be built on sand.
        this.#log.error({ err: error }, "an update could not be put in force; starting over from a snapshot");
        this.#isLost = true;
        this.#waiting = [];
      }
      if (this.#closing.signal.aborted) return;
    }
  }

  async #work(work: Work): Promise<void> {
    switch (work.kind) {
      case "update": {
        const { picture, touched } = updated(this.#picture, work.update);
        if (work.update.kind === "snapshot") this.#contents.forgive();
        if (!(await this.#putInForce(picture, touched, true))) return;
        const { kind, revision, changes } = work.update;
        const millis = performance.now() - work.receivedAt;
        this.#log.debug({ kind, revision, changes: changes.length, millis }, "in force");
        return;
      }
      case "bookmark": {
        if (this.#picture === undefined || this.#picture.revision === work.revision) return;
        this.#picture = { ...this.#picture, revision: work.revision };
        this.#tell();
        return;
      }
      case "again": {
        if (this.#picture === undefined) return;
        const tenants = this.#keptOut.problems.filter(mayPass).map(({ tenant }) => tenant);
        await this.#putInForce(this.#picture, new Set(tenants), true);
      }
    }
  }

  /** @returns false when the worker was told to end meanwhile */
  async #putInForce(picture: Picture, touched: ReadonlySet<string>, mayFetch: boolean): Promise<boolean> {
    const isRevoked = (version: NeededVersion) => this.catalog.isRevoked(version);
    // Only asked for when bytes come: it looks at everything there is.
    const inUse = () => inUseOf(picture);
    const loader = new TenantLoader({ model: this.#model, contents: this.#contents, mayFetch, inUse, isRevoked });
    if (mayFetch) {
      const needed = [...touched].flatMap((tenant) => {
        const tenantPicture = picture.tenants.get(tenant);
        return tenantPicture === undefined
          ? []
          : loader.needed(tenant, tenantPicture, this.catalog.tenants.get(tenant)).filter((it) => !isRevoked(it));
      });
      await this.#contents.prefetch(needed, inUse);
    }
    const served = new Map<string, Awaited<ReturnType<TenantLoader["load"]>>>();
    for (const tenant of touched) {
      const tenantPicture = picture.tenants.get(tenant);
      const before = this.catalog.tenants.get(tenant);
      served.set(tenant, tenantPicture && (await loader.load(tenant, tenantPicture, before)));
    }
    if (this.#closing.signal.aborted) return false;
    // From here to the end nothing else runs: calls see the picture before, or this one.
    for (const [tenant, each] of served) this.catalog.set(tenant, each);
    this.#picture = picture;
    this.#keptOut.look(touched);
    // What came from the disk is there.
    if (mayFetch) this.#keeper.outdate();
    this.#becomeReady();
    this.#tell();
    this.#tryAgainLater();
    return true;
  }

  #tryAgainLater(): void {
    // One appointment, which updates do not put off.
    if (this.#retry !== undefined || !this.#keptOut.problems.some(mayPass)) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      void this.#retryMissing();
    }, this.#options.retryMs ?? RETRY);
    this.#retry.unref();
  }

  /** Beside the pipeline: updates do not wait for what did not come before. */
  async #retryMissing(): Promise<void> {
    const picture = this.#picture;
    if (picture === undefined) return;
    const tenants = new Set(this.#keptOut.problems.filter(mayPass).map(({ tenant }) => tenant));
    const needed = [...tenants].flatMap((tenant) => {
      const revisions = revisionsOf(picture.tenants.get(tenant) ?? NOTHING);
      return revisions.flatMap(digestsOf).map((digest) => ({ tenant, digest }));
    });
    const isServed = (version: NeededVersion) => !this.catalog.isRevoked(version);
    await this.#contents.retry(needed.filter(isServed), () => inUseOf(picture));
    void this.#enqueue({ kind: "again" });
  }

  /** Work out the state, log its changes, report it. */
  #tell(): void {
    const before = this.#state;
    this.#state = this.#stateNow();
    if (this.#isDurable && this.#picture !== undefined) this.#appliedRevision = this.#picture.revision;
    const problems = problemsOf(this.#state);
    if (this.#state.kind !== before.kind || !isSame(problems, problemsOf(before))) {
      const revision = this.#picture?.revision;
      this.#log[this.#state.kind === "READY" ? "info" : "warn"](
        {
          state: this.#state.kind,
          was: before.kind,
          revision,
          problems: problems.length,
          some: problems.slice(0, MAX_LOGGED),
        },
        `${this.#state.kind} towards the registry`,
      );
    }
    if (this.#isConnected) this.#reporter.report({ state: this.#state, appliedRevision: this.#appliedRevision });
  }

  #stateNow(): SourceState {
    if (this.#picture === undefined) return { kind: "NOT_READY" };
    const { revision } = this.#picture;
    const problems = this.#isDurable ? this.#keptOut.problems : [NOT_DURABLE, ...this.#keptOut.problems];
    if (!this.#isConnected) return { kind: "STALE", revision, problems };
    return problems.length === 0 ? { kind: "READY", revision } : { kind: "ERROR", revision, problems };
  }
}

const NOT_DURABLE: Problem = {
  tenant: "",
  resource: "",
  reason: "REVOCATIONS_NOT_DURABLE",
  message: "revocations act but could not be written to the disk; a start without the registry will serve no persona",
};

const NOTHING: TenantPicture = { state: undefined, released: new Map() };

/** Digests of everything in a picture. */
function inUseOf({ tenants }: Picture): ReadonlySet<string> {
  return new Set([...tenants.values()].flatMap(revisionsOf).flatMap(digestsOf));
}

function digestsOf({ terms }: { readonly terms: readonly { readonly digest: string }[] }): string[] {
  return terms.map(({ digest }) => digest);
}

function isSame(some: readonly Problem[], others: readonly Problem[]): boolean {
  return (
    some.length === others.length &&
    some.every(({ resource, reason }, i) => {
      const other = others[i];
      return other?.resource === resource && other.reason === reason;
    })
  );
}
