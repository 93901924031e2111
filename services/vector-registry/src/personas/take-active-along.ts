import { breakGlass, glassBrokenHere } from "../approvals/break-glass.ts";
import type { Mutation } from "../database/mutation.ts";
import { ALIAS_NAME, PERSONA_NAME } from "../resource-name.ts";
import { moveActive } from "./move-active.ts";
import type { MovedAlias } from "./moved-alias.ts";
import { gateRefusal, lacksOnlyApproval, personaGate } from "./persona-gate.ts";
import { tenantOf } from "./persona-rows.ts";
import { type RevisionKey, readRevisionRows, revisionName } from "./read-revision.ts";

/** The one alias whose moves are guarded, and may not leave behind what serves. */
const PRODUCTION = "production";

/**
 * Let the active persona go on to its successor, leave it behind, or refuse the move of the alias, as the rule of
 * `followAlias` says.
 */
export async function takeActiveAlong(mutation: Mutation, successor: RevisionKey, moved: MovedAlias): Promise<void> {
  const { tenant, active_number: number } = tenantOf(mutation);
  const alias = ALIAS_NAME.format({ tenant, ...moved });
  const findings = await personaGate(mutation.db, successor);
  const glass = findings.length === 0 || !lacksOnlyApproval(findings) ? undefined : await glassFor(mutation, moved);
  const active = { tenant, persona: successor.persona, number: number as number };
  const resource = PERSONA_NAME.format(successor);
  if (findings.length === 0 || glass !== undefined) {
    const reason = `${alias} was moved`;
    const to = await readRevisionRows(mutation.db, successor);
    await moveActive(mutation, { to, reason, glass });
    mutation.audit({
      action: "ActivatePersona",
      resource,
      before: { active: revisionName(active) },
      after: { active: revisionName(successor), ...(glass === undefined ? {} : { breakGlass: glass }) },
      reason,
    });
    return;
  }
  if (moved.alias === PRODUCTION && !(await isRevoked(mutation, active))) throw gateRefusal(successor, findings);
  mutation.audit({
    action: "LeaveActivePersona",
    resource,
    before: { active: revisionName(active) },
    after: {
      active: revisionName(active),
      successor: revisionName(successor),
      gate: findings.map(({ reason, message }) => ({ reason, message })),
    },
    reason: `${alias} was moved to what may not be active`,
  });
  mutation.announce(
    { alias, active: revisionName(active), successor: revisionName(successor) },
    "the active persona does not follow its alias: the gate of its next revision is closed",
  );
}

async function glassFor(
  mutation: Mutation,
  { vector, alias, breakGlass: offered }: MovedAlias,
): Promise<string | undefined> {
  const broken = await glassBrokenHere(mutation);
  if (broken !== undefined || offered === undefined || alias !== PRODUCTION) return broken;
  const { tenant } = tenantOf(mutation);
  return breakGlass(mutation, { ...offered, resource: ALIAS_NAME.format({ tenant, vector, alias }) });
}

/** Whether a revision has a version that is revoked: no worker serves it. */
async function isRevoked({ db }: Mutation, key: RevisionKey): Promise<boolean> {
  const findings = await personaGate(db, key);
  return findings.some(({ reason }) => reason === "VERSION_REVOKED");
}
