import { ServiceError } from "@persona-mesh/service";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import type { Admission } from "../scheduler/index.ts";
import type { SteeringTable } from "../table/index.ts";
import { type RowSteering, UNSTEERED } from "./row-steering.ts";

/** A persona taken on in the middle of a stream. */
export interface PersonaSwitch {
  readonly persona: LoadedPersona | undefined;
  /** From finding the change to rows that the next step reads. */
  readonly micros: number;
}

/** Where a call's persona comes from. */
export interface PersonaSource {
  /** Read at the start of the call, and before every step where `follow` is set. */
  readonly current: () => LoadedPersona | undefined;
  /** Take on what becomes current while the stream runs. */
  readonly follow: boolean;
  /** 0 to 1. */
  readonly gain: number;
}

/**
 * What one request wears: a lease of the steering table from admission to the end, replaced between steps when it
 * follows the tenant's active persona.
 */
export class WornPersona {
  readonly #table: SteeringTable;
  readonly #source: PersonaSource;
  #persona: LoadedPersona | undefined;
  #steering: RowSteering = UNSTEERED;

  constructor(table: SteeringTable, source: PersonaSource) {
    this.#table = table;
    this.#source = source;
    this.#persona = source.current();
  }

  get persona(): LoadedPersona | undefined {
    return this.#persona;
  }

  get gain(): number {
    return this.#source.gain;
  }

  get steering(): RowSteering {
    return this.#steering;
  }

  /** Take the rows, between steps, before the request enters the batch. */
  admit(): Admission {
    this.#persona = this.#source.current();
    const worn = this.#acquire(this.#persona);
    if (worn === "full") return { kind: "wait" };
    this.#steering = worn;
    return { kind: "admit" };
  }

  /** Between steps: follow the current persona. When the table is full of rows in use the old one stays on for now. */
  refresh(): PersonaSwitch | undefined {
    if (!this.#source.follow) return undefined;
    const started = performance.now();
    const next = this.#source.current();
    if (next?.revision === this.#persona?.revision) return undefined;
    const worn = this.#acquire(next);
    if (worn === "full") return undefined;
    this.#steering.lease?.release();
    this.#persona = next;
    this.#steering = worn;
    return { persona: next, micros: (performance.now() - started) * 1000 };
  }

  /** After the last step that read the rows. */
  release(): void {
    this.#steering.lease?.release();
    this.#steering = UNSTEERED;
  }

  #acquire(persona: LoadedPersona | undefined): RowSteering | "full" {
    if (persona === undefined) return UNSTEERED;
    const got = this.#table.acquire(persona.revision, persona.rows);
    if (got.kind === "full") return "full";
    if (got.kind === "tooLarge") {
      throw new ServiceError(
        "TABLE_TOO_SMALL",
        `persona "${persona.name}" needs ${got.needed} rows, the whole steering table has ${got.capacity}`,
        { metadata: { needed: String(got.needed), capacity: String(got.capacity) } },
      );
    }
    return {
      lease: got.lease,
      gain: this.#source.gain,
      renorm: persona.mode === "ADD_RENORM",
      positions: persona.positions,
    };
  }
}
