import { RowPool } from "./row-pool.ts";

/** Size of the resident table, fixed for the life of the worker. */
export interface SteeringTableShape {
  /** Rows of the table with row 0, which stays all zeros and is never given out: at least 1. */
  readonly rows: number;
  /** Width of the residual stream. */
  readonly hidden: number;
  /** Decoder blocks of the model. */
  readonly layers: number;
}

/** A composed persona revision: the delta of each steered layer, float32[hidden]. Layers that are not there stay unsteered. */
export type ComposedRows = ReadonlyMap<number, Float32Array>;

/** Keeps the rows of one revision in the table until it is released. */
export interface Lease extends Disposable {
  readonly revision: string;
  /** Row index of each layer, int32[layers]; 0 where the persona does not act. Valid until the release. */
  readonly rows: Int32Array;
  /** L2 norm of each layer's row, float32[layers]; 0 where the persona does not act. */
  readonly norms: Float32Array;
  /** Give the rows back. A second call does nothing. */
  release(): void;
}

export type Acquisition =
  | { readonly kind: "leased"; readonly lease: Lease; readonly hit: boolean }
  /** Every row that could make room is held by a running request: wait for a release. */
  | { readonly kind: "full"; readonly needed: number; readonly available: number }
  /** Would not fit into an empty table: waiting does not help. */
  | { readonly kind: "tooLarge"; readonly needed: number; readonly capacity: number };

/** What {@link SteeringTable.drop} found. */
export type Dropped =
  | { readonly kind: "absent" }
  | { readonly kind: "freed" }
  /** Still read by this many leases; the rows are freed by the last release. */
  | { readonly kind: "held"; readonly leases: number };

/** A composed row that must not enter the table: it would end every request that reads it. */
export class NonFiniteRowError extends Error {
  override readonly name = "NonFiniteRowError";
  readonly revision: string;
  readonly layer: number;

  constructor(revision: string, layer: number) {
    super(
      `the steering row of revision ${revision} at layer ${layer} has a value, or a norm, that float32 cannot hold`,
    );
    this.revision = revision;
    this.layer = layer;
  }
}

export interface SteeringTableFigures {
  /** Rows that personas can use: all but row 0. */
  readonly capacity: number;
  /** Rows that hold a persona, read by a request or not. */
  readonly rowsInUse: number;
  /** Rows that a lease keeps from being evicted. */
  readonly rowsHeld: number;
  readonly residentPersonas: number;
  readonly heldPersonas: number;
  /** Acquisitions that found their rows resident. */
  readonly hits: number;
  /** Acquisitions that wrote their rows. */
  readonly misses: number;
  readonly evictions: number;
  /** Acquisitions answered "full". */
  readonly refusals: number;
}

interface Entry {
  readonly revision: string;
  readonly rows: Int32Array;
  readonly norms: Float32Array;
  /** The distinct non-zero members of `rows`. */
  readonly owned: readonly number[];
  leases: number;
  /** Out of the index: the last release frees the rows. */
  dropped: boolean;
}

/**
 * The resident table that the body graph gathers steering rows from.
 *
 * A persona revision takes one row per steered layer. Revisions are immutable, so a resident one is found by name and
 * costs no write; one that no request reads any more stays until its rows are needed, the least recently used first.
 *
 * Ownership: only {@link acquire} writes `values`, and only rows that no lease covers. Call it between two steps. Release
 * and drop write nothing and may come at any time; but a row that a step in flight gathers must keep its lease until
 * that step has ended, or the next acquire could overwrite it.
 */
export class SteeringTable {
  /** float32[rows, hidden], row-major: what the graph binds. Nobody else writes it once a row has been acquired. */
  readonly values: Float32Array;
  readonly shape: SteeringTableShape;
  readonly #pool: RowPool;
  readonly #entries = new Map<string, Entry>();
  /** Resident entries without a lease; insertion order is the order of eviction. */
  readonly #idle = new Map<string, Entry>();
  /** Rows of `#idle`: what eviction could free. */
  #idleRows = 0;
  #hits = 0;
  #misses = 0;
  #evictions = 0;
  #refusals = 0;

  constructor(shape: SteeringTableShape) {
    for (const [name, size] of Object.entries(shape)) {
      if (!Number.isSafeInteger(size) || size < 1) {
        throw new RangeError(`steering table: ${name} must be a positive integer, not ${size}`);
      }
    }
    this.shape = { ...shape };
    this.values = new Float32Array(shape.rows * shape.hidden);
    this.#pool = new RowPool(shape.rows);
  }

  /**
   * Lease the rows of a revision, written now unless they are resident.
   *
   * @param revision - names `composed` for good: the same name must always come with the same rows
   * @param composed - deltas of the steered layers; a layer whose delta is all zeros takes no row
   * @throws RangeError for a layer the model does not have or a row that is not float32[hidden]
   * @throws NonFiniteRowError for NaN, Inf, or a norm beyond float32
   */
  acquire(revision: string, composed: ComposedRows): Acquisition {
    const resident = this.#entries.get(revision);
    if (resident !== undefined) {
      this.#hits++;
      return { kind: "leased", lease: this.#lease(resident), hit: true };
    }
    const { norms, steered } = this.#measure(revision, composed);
    const needed = steered.length;
    if (needed > this.#pool.capacity) return { kind: "tooLarge", needed, capacity: this.#pool.capacity };
    const available = this.#pool.free + this.#idleRows;
    if (needed > available) {
      this.#refusals++;
      return { kind: "full", needed, available };
    }
    this.#makeRoom(needed);
    const entry = this.#write(revision, composed, norms, steered);
    this.#misses++;
    return { kind: "leased", lease: this.#lease(entry), hit: false };
  }

  /** Whether acquiring the revision would write nothing. */
  has(revision: string): boolean {
    return this.#entries.has(revision);
  }

  /**
   * Forget a revision, as after its revocation: no later acquire finds these rows.
   *
   * Running requests keep theirs; ending them is the caller's decision. So is refusing new ones: acquiring the revision
   * again would write it again.
   */
  drop(revision: string): Dropped {
    const entry = this.#entries.get(revision);
    if (entry === undefined) return { kind: "absent" };
    this.#entries.delete(revision);
    entry.dropped = true;
    if (entry.leases > 0) return { kind: "held", leases: entry.leases };
    this.#leaveIdle(entry);
    this.#pool.give(entry.owned);
    return { kind: "freed" };
  }

  figures(): SteeringTableFigures {
    const rowsInUse = this.#pool.capacity - this.#pool.free;
    return {
      capacity: this.#pool.capacity,
      rowsInUse,
      rowsHeld: rowsInUse - this.#idleRows,
      residentPersonas: this.#entries.size,
      heldPersonas: this.#entries.size - this.#idle.size,
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
      refusals: this.#refusals,
    };
  }

  /** Check every row before the table changes, so that a bad persona leaves it as it was. */
  #measure(revision: string, composed: ComposedRows): { norms: Float32Array; steered: number[] } {
    const { hidden, layers } = this.shape;
    const norms = new Float32Array(layers);
    const steered: number[] = [];
    for (const [layer, row] of composed) {
      if (!Number.isInteger(layer) || layer < 0 || layer >= layers) {
        throw new RangeError(`revision ${revision} steers layer ${layer}; the model has layers 0 to ${layers - 1}`);
      }
      if (row.length !== hidden) {
        throw new RangeError(
          `revision ${revision}, layer ${layer}: a row of ${row.length}, the model's width is ${hidden}`,
        );
      }
      let squares = 0;
      // By index: an iterator here would be most of what a cold switch costs.
      for (let i = 0; i < hidden; i++) squares += (row[i] as number) ** 2;
      norms[layer] = Math.sqrt(squares);
      // One NaN or Inf makes the sum so; a float64 sum of float32 squares cannot overflow by itself.
      if (!Number.isFinite(norms[layer])) throw new NonFiniteRowError(revision, layer);
      if (squares > 0) steered.push(layer);
    }
    return { norms, steered };
  }

  #write(revision: string, composed: ComposedRows, norms: Float32Array, steered: readonly number[]): Entry {
    const owned = this.#pool.take(steered.length);
    const rows = new Int32Array(this.shape.layers);
    steered.forEach((layer, i) => {
      const row = owned[i] as number;
      this.values.set(composed.get(layer) as Float32Array, row * this.shape.hidden);
      rows[layer] = row;
    });
    const entry: Entry = { revision, rows, norms, owned, leases: 0, dropped: false };
    this.#entries.set(revision, entry);
    return entry;
  }

  #makeRoom(needed: number): void {
    for (const entry of this.#idle.values()) {
      if (this.#pool.free >= needed) return;
      this.#leaveIdle(entry);
      this.#entries.delete(entry.revision);
      this.#pool.give(entry.owned);
      this.#evictions++;
    }
  }

  #lease(entry: Entry): Lease {
    this.#leaveIdle(entry);
    entry.leases++;
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      this.#release(entry);
    };
    // Copies: a holder that writes into its lease harms only itself.
    return {
      revision: entry.revision,
      rows: entry.rows.slice(),
      norms: entry.norms.slice(),
      release,
      [Symbol.dispose]: release,
    };
  }

  #release(entry: Entry): void {
    entry.leases--;
    if (entry.leases > 0) return;
    if (entry.dropped) {
      this.#pool.give(entry.owned);
      return;
    }
    if (entry.owned.length === 0) {
      // Eviction, which follows rows, would never find it: personas that do nothing would pile up.
      this.#entries.delete(entry.revision);
      return;
    }
    this.#idle.set(entry.revision, entry);
    this.#idleRows += entry.owned.length;
  }

  #leaveIdle(entry: Entry): void {
    if (this.#idle.get(entry.revision) !== entry) return;
    this.#idle.delete(entry.revision);
    this.#idleRows -= entry.owned.length;
  }
}
