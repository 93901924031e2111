import { CompositionPolicy, Mode, Positions } from "@persona-mesh/protocol";
import { RevisionCause } from "@persona-mesh/protocol/registry";
import type { FieldViolation } from "@persona-mesh/service";
import type { PersonaRevisionsTable } from "../database/schema.ts";

/** The contract's words, on the wire and in the database. 0 is the server's default. */
const MODES = words<Mode, PersonaRevisionsTable["mode"]>([
  [Mode.UNSPECIFIED, "ADD"],
  [Mode.ADD, "ADD"],
  [Mode.ADD_RENORM, "ADD_RENORM"],
]);
const POSITIONS = words<Positions, PersonaRevisionsTable["positions"]>([
  [Positions.UNSPECIFIED, "ALL"],
  [Positions.ALL, "ALL"],
  [Positions.PROMPT, "PROMPT"],
  [Positions.GENERATED, "GENERATED"],
]);
const POLICIES = words<CompositionPolicy, PersonaRevisionsTable["policy"]>([
  [CompositionPolicy.UNSPECIFIED, "REJECT"],
  [CompositionPolicy.ACCEPT, "ACCEPT"],
  [CompositionPolicy.SCALE, "SCALE"],
  [CompositionPolicy.ORTHOGONALIZE, "ORTHOGONALIZE"],
  [CompositionPolicy.REJECT, "REJECT"],
]);
const CAUSES = words<RevisionCause, PersonaRevisionsTable["cause"]>([
  [RevisionCause.WRITTEN, "WRITTEN"],
  [RevisionCause.ALIAS_MOVED, "ALIAS_MOVED"],
]);

export const modeFrom = MODES.read;
export const positionsFrom = POSITIONS.read;
export const policyFrom = POLICIES.read;
export const modeOf = MODES.write;
export const positionsOf = POSITIONS.write;
export const policyOf = POLICIES.write;
export const causeOf = CAUSES.write;

function words<Value, Word extends string>(pairs: readonly (readonly [Value, Word])[]) {
  return {
    /** The word for a value of a request; one that is not known is added to `violations`. */
    read(value: Value, field: string, violations: FieldViolation[]): Word {
      const pair = pairs.find(([known]) => known === value);
      if (pair === undefined) violations.push({ field, description: `${value} is not a value that is known` });
      return (pair ?? (pairs[0] as readonly [Value, Word]))[1];
    },
    /** The last one: the first may be the unspecified value. */
    write: (word: Word): Value => (pairs.findLast(([, known]) => known === word) as readonly [Value, Word])[0],
  };
}
