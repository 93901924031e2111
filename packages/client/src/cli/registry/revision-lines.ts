import { CompositionPolicySchema, ModeSchema, PositionsSchema } from "@persona-mesh/protocol";
import { type PersonaRevision, RevisionCauseSchema } from "@persona-mesh/protocol/registry";
import { enumName } from "../enum-name.ts";
import { table } from "../table.ts";
import { printable } from "../text-layout.ts";
import { digest, hundredths, shortName, time } from "./cells.ts";
import { fields } from "./output.ts";

/** What a persona was at one time, what composition made of it, and what stands in the way of activating it. */
export function revisionLines(revision: PersonaRevision): string[] {
  const { composition, gate } = revision;
  const terms = table(
    [
      { heading: "TERM", cell: ({ vector }) => shortName(vector) },
      { heading: "VERSION", cell: (term) => digest(term.digest) },
      { heading: "ALPHA", align: "right", cell: ({ alphaHundredths }) => hundredths(alphaHundredths) },
      { heading: "LAYERS", cell: ({ layers }) => layers.join(",") },
    ],
    revision.terms,
  );
  const doses = (composition?.layers ?? []).map(({ layer, dose }) => `${layer}: ${dose.toFixed(3)}`).join(", ");
  return [
    ...fields([
      ["revision", shortName(revision.name)],
      ["digest", revision.digest],
      ["mode", enumName(ModeSchema, revision.mode)],
      ["positions", enumName(PositionsSchema, revision.positions)],
      ["policy", enumName(CompositionPolicySchema, revision.policy)],
      ["outcome", composition?.outcome ?? ""],
      ["doses", doses],
      ["cause", enumName(RevisionCauseSchema, revision.cause)],
      ["created", `${time(revision.createTime)} by ${revision.createdBy}`],
    ]),
    "",
    ...terms,
    ...(composition?.findings ?? []).map(({ message }) => `composition: ${printable(message)}`),
    ...(gate.length === 0 ? [] : ["", "not ready to be activated:"]),
    ...gate.map(({ reason, message }) => `  ${printable(reason)}: ${printable(message)}`),
  ];
}
