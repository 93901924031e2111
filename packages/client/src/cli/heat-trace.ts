import type { GeneratedToken, PersonaProof } from "@persona-mesh/protocol";
import type { GenerateEvent } from "../reply.ts";
import { UsageError } from "./failure.ts";

/** A piece of a reply's text and the tokens that brought it: several where one character, or a stop string, took more. */
export interface HeatPiece {
  readonly text: string;
  readonly tokens: readonly GeneratedToken[];
  /** Mean of its tokens; undefined where no persona is worn, or not at the layer. */
  readonly projection: number | undefined;
}

/** Follows the events of a reply and notes the projection of each piece of its text. */
export class HeatTrace {
  readonly pieces: HeatPiece[] = [];
  readonly #wanted: number | undefined;
  #layer: number | undefined;
  /** Of the layer among the projections of a token. */
  #index = -1;
  #waiting: GeneratedToken[] = [];

  /** @param layer - whose projections count. @default where the persona's dose is largest */
  constructor(layer?: number) {
    this.#wanted = layer;
  }

  /** Whose projections are noted; undefined while no persona is worn. */
  get layer(): number | undefined {
    return this.#layer;
  }

  /**
   * Passes every event on, after noting it.
   *
   * @throws UsageError for a layer that the persona does not steer
   */
  async *observe(events: AsyncIterable<GenerateEvent>): AsyncGenerator<GenerateEvent> {
    for await (const event of events) {
      if (event.case === "started") this.#start(event.value.persona);
      // A persona that takes over may steer other layers: it has no colour then, and its legend is the old one.
      if (event.case === "personaSwitched") this.#wear(event.value.persona, this.#wanted ?? this.#layer);
      if (event.case === "tokens") this.#take(event.value.text, event.value.tokens);
      yield event;
    }
  }

  #start(persona: PersonaProof | undefined): void {
    this.#wear(persona, this.#wanted);
    if (persona === undefined || this.#wanted === undefined || this.#index >= 0) return;
    const steered = persona.doses.map(({ layer }) => layer).join(", ");
    throw new UsageError("OPTIONS_CONFLICT", `the persona does not steer layer ${this.#wanted}; it steers ${steered}`);
  }

  #wear(persona: PersonaProof | undefined, layer: number | undefined): void {
    const doses = persona?.doses ?? [];
    const largest = doses.reduce((a, b) => (b.dose > a.dose ? b : a), doses[0] ?? { layer: undefined, dose: 0 });
    const chosen = layer ?? largest.layer;
    this.#index = doses.findIndex((dose) => dose.layer === chosen);
    if (this.#index >= 0) this.#layer = chosen;
  }

  #take(text: string, tokens: readonly GeneratedToken[]): void {
    this.#waiting.push(...tokens);
    if (text === "") return;
    const measured = this.#waiting.flatMap(({ projections }) => projections[this.#index] ?? []);
    const sum = measured.reduce((total, projection) => total + projection, 0);
    const projection = measured.length === 0 ? undefined : sum / measured.length;
    this.pieces.push({ text, tokens: this.#waiting, projection });
    this.#waiting = [];
  }
}
