import { ServiceError } from "@persona-mesh/service";
import { effectiveAlpha, gainFor, stepsToCap } from "@persona-mesh/steering";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { ALWAYS_SERVED, type Standing } from "../personas/persona-catalog.ts";
import type { Admission } from "../scheduler/index.ts";
import type { SteeringTable } from "../table/index.ts";
import { type RowSteering, UNSTEERED } from "./row-steering.ts";

/** A change in the middle of a stream: another persona, none any more, or the same one at a lower gain. */
export interface PersonaSwitch {
  readonly persona: LoadedPersona | undefined;
  readonly gain: number;
  /** From finding the change to rows that the next step reads. */
  readonly micros: number;
}

/** Where a call's persona comes from. */
export interface PersonaSource {
  /** Read at the start of the call; before every step too where `follow` is set and `next` is not. */
  readonly current: () => LoadedPersona | undefined;
  /** Take on what becomes current while the stream runs. */
  readonly follow: boolean;
  /** What a running stream that follows wears next. @default {@link current} */
  readonly next?: (worn: LoadedPersona | undefined) => LoadedPersona | undefined;
  /** 0 to 1. */
  readonly gain: number;
  /** Whether a persona may be worn still, and up to which alpha. @default always, as it is */
  readonly standing?: (persona: LoadedPersona) => Standing;
}

type Withdrawn = Extract<Standing, { kind: "withdrawn" }>;

/**
 * What one request wears: a lease of the steering table from admission to the end, replaced between steps when it
 * follows the tenant's active persona, and given up when the persona is withdrawn.
 */
export class WornPersona {
  readonly #table: SteeringTable;
  readonly #source: PersonaSource;
  #persona: LoadedPersona | undefined;
  #gain: number;
  #steering: RowSteering = UNSTEERED;
  /** How the persona was found withdrawn when the call went on: it is lost, even where it stands again before the next step. */
  #lost: Withdrawn | undefined;
  /** Effective alpha that the guard has left of a persona, by its rows. */
  #lowered: { readonly rowsId: string; readonly alphaHundredths: number } | undefined;

  constructor(table: SteeringTable, source: PersonaSource) {
    this.#table = table;
    this.#source = source;
    this.#persona = source.current();
    this.#gain = this.#gainOf(this.#persona);
  }

  get persona(): LoadedPersona | undefined {
    return this.#persona;
  }

  /** As it acts: what the call asked for, lowered where a policy that came later or the guard says so. */
  get gain(): number {
    return this.#gain;
  }

  /** Effective alpha as it acts, in hundredths; 0 for none. */
  get alphaHundredths(): number {
    return this.#persona === undefined ? 0 : effectiveAlpha([this.#persona.largestAlphaHundredths], this.#gain);
  }

  get steering(): RowSteering {
    return this.#steering;
  }

  /** Take the rows, between steps, before the request enters the batch. A persona withdrawn by now refuses it. */
  admit(): Admission {
    this.#persona = this.#source.current();
    const error = this.withdrawal();
    if (error !== undefined) return { kind: "refuse", error };
    this.#gain = this.#gainOf(this.#persona);
    const worn = this.#acquire(this.#persona, this.#gain);
    if (worn === "full") return { kind: "wait" };
    this.#steering = worn;
    return { kind: "admit" };
  }

  /**
   * Take the rows of what is worn again, before a request that had given its slot up goes on. Those of a persona that was
   * withdrawn meanwhile are left where they are: {@link refresh} says what becomes of the request.
   */
  readmit(): Admission {
    const standing = this.#persona === undefined ? ALWAYS_SERVED : this.#standing(this.#persona);
    if (standing.kind === "withdrawn") this.#lost ??= standing;
    if (this.#lost !== undefined) return { kind: "admit" };
    const worn = this.#acquire(this.#persona, this.#gain);
    if (worn === "full") return { kind: "wait" };
    this.#steering = worn;
    return { kind: "admit" };
  }

  /**
   * Between steps: follow the current persona, lose a withdrawn one. When the table is full of rows in use the old one
   * stays on for now, unless it is withdrawn.
   *
   * @throws ServiceError VERSION_REVOKED and others where streams end with a persona that is withdrawn
   */
  refresh(): PersonaSwitch | undefined {
    const started = performance.now();
    const worn = this.#persona;
    const standing = this.#lost ?? (worn === undefined ? ALWAYS_SERVED : this.#standing(worn));
    if (standing.kind === "withdrawn" && standing.policy === "END") {
      // The request ends after the step that comes: what is withdrawn does not act in it.
      this.release();
      throw standing.error;
    }
    const kept = standing.kind === "withdrawn" ? undefined : worn;
    let next = this.#next(kept);
    let gain = this.#gainOf(next);
    const isSame = next?.revision === worn?.revision && next?.rowsId === worn?.rowsId && gain === this.#gain;
    if (isSame && this.#lost === undefined) return undefined;
    let steering = this.#acquire(next, gain);
    if (steering === "full") {
      if (kept === worn) return undefined;
      next = undefined;
      gain = this.#source.gain;
      steering = UNSTEERED;
    }
    this.#steering.lease?.release();
    this.#lost = undefined;
    this.#persona = next;
    this.#gain = gain;
    this.#steering = steering;
    if (next?.rowsId !== this.#lowered?.rowsId) this.#lowered = undefined;
    return { persona: next, gain, micros: (performance.now() - started) * 1000 };
  }

  /**
   * Between steps: lower what is worn to an effective alpha, for as long as it is worn. It is lowered as a whole, through the
   * gain; a persona that is taken on later, this one again included, starts at its own alpha.
   */
  lower(alphaHundredths: number): void {
    if (this.#persona === undefined) return;
    this.#lowered = { rowsId: this.#persona.rowsId, alphaHundredths };
    this.#gain = this.#gainOf(this.#persona);
    if (this.#steering.lease !== undefined) this.#steering = { ...this.#steering, gain: this.#gain };
  }

  /** Why what is worn must act no more; undefined while it may. */
  withdrawal(): ServiceError | undefined {
    if (this.#persona === undefined) return undefined;
    const standing = this.#standing(this.#persona);
    return standing.kind === "withdrawn" ? standing.error : undefined;
  }

  /** After the last step that read the rows. */
  release(): void {
    this.#steering.lease?.release();
    this.#steering = UNSTEERED;
  }

  #next(worn: LoadedPersona | undefined): LoadedPersona | undefined {
    const { follow, next, current } = this.#source;
    if (!follow) return worn;
    return next === undefined ? current() : next(worn);
  }

  #standing(persona: LoadedPersona): Standing {
    return this.#source.standing?.(persona) ?? ALWAYS_SERVED;
  }

  #gainOf(persona: LoadedPersona | undefined): number {
    const { gain } = this.#source;
    if (persona === undefined) return gain;
    const allowed = gainWithin(persona, gain, this.#standing(persona));
    if (this.#lowered?.rowsId !== persona.rowsId) return allowed;
    return Math.min(allowed, gainFor(this.#lowered.alphaHundredths, persona.largestAlphaHundredths));
  }

  #acquire(persona: LoadedPersona | undefined, gain: number): RowSteering | "full" {
    if (persona === undefined) return UNSTEERED;
    const got = this.#table.acquire(persona.rowsId, persona.rows);
    if (got.kind === "full") return "full";
    if (got.kind === "tooLarge") {
      throw new ServiceError(
        "TABLE_TOO_SMALL",
        `persona "${persona.name}" needs ${got.needed} rows, the whole steering table has ${got.capacity}`,
        { metadata: { needed: String(got.needed), capacity: String(got.capacity) } },
      );
    }
    return { lease: got.lease, gain, renorm: persona.mode === "ADD_RENORM", positions: persona.positions };
  }
}

/** The gain that keeps a persona within the cap that holds now: as asked for, or lowered by steps of 0.1 of alpha. */
export function gainWithin({ largestAlphaHundredths }: LoadedPersona, gain: number, standing: Standing): number {
  if (standing.kind === "withdrawn") return gain;
  const alpha = effectiveAlpha([largestAlphaHundredths], gain);
  const lowered = stepsToCap(alpha, standing.capHundredths).at(-1);
  return lowered === undefined ? gain : gainFor(lowered, largestAlphaHundredths);
}
