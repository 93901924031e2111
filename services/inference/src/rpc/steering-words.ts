import { CompositionPolicy, Mode, Positions } from "@persona-mesh/protocol";
import { ServiceError } from "@persona-mesh/service";
import type { CompositionPolicy as Policy } from "@persona-mesh/steering";
import type { LoadedPersona } from "../personas/loaded-persona.ts";

/** The contract's words, on the wire and in the worker. 0 is the server's default. */
const MODES: readonly (readonly [Mode, LoadedPersona["mode"]])[] = [
  [Mode.UNSPECIFIED, "ADD"],
  [Mode.ADD, "ADD"],
  [Mode.ADD_RENORM, "ADD_RENORM"],
];
const POSITIONS: readonly (readonly [Positions, LoadedPersona["positions"]])[] = [
  [Positions.UNSPECIFIED, "ALL"],
  [Positions.ALL, "ALL"],
  [Positions.PROMPT, "PROMPT"],
  [Positions.GENERATED, "GENERATED"],
];
const POLICIES: readonly (readonly [CompositionPolicy, Policy])[] = [
  [CompositionPolicy.UNSPECIFIED, "REJECT"],
  [CompositionPolicy.ACCEPT, "ACCEPT"],
  [CompositionPolicy.SCALE, "SCALE"],
  [CompositionPolicy.ORTHOGONALIZE, "ORTHOGONALIZE"],
  [CompositionPolicy.REJECT, "REJECT"],
];

/** @throws ServiceError INVALID_ARGUMENT for a value that this server does not know */
export const modeFrom = (value: Mode) => wordOf(MODES, value, "persona.inline.mode");
export const positionsFrom = (value: Positions) => wordOf(POSITIONS, value, "persona.inline.positions");
export const policyFrom = (value: CompositionPolicy) => wordOf(POLICIES, value, "persona.inline.policy");

export const modeOf = (word: LoadedPersona["mode"]) => wireValueOf(MODES, word);
export const positionsOf = (word: LoadedPersona["positions"]) => wireValueOf(POSITIONS, word);

function wordOf<Value, Word>(pairs: readonly (readonly [Value, Word])[], value: Value, field: string): Word {
  const pair = pairs.find(([known]) => known === value);
  if (pair === undefined) throw ServiceError.invalid([{ field, description: `${value} is not a value that is known` }]);
  return pair[1];
}

function wireValueOf<Value, Word>(pairs: readonly (readonly [Value, Word])[], word: Word): Value {
  // The last one: the first may be the unspecified value.
  const pair = pairs.findLast(([, known]) => known === word);
  if (pair === undefined) throw new Error(`no value on the wire for ${word}`);
  return pair[0];
}
