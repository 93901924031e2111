import { type Approval, ApprovalDecision, ApprovalDecisionSchema } from "@persona-mesh/protocol/registry";
import type { Command } from "commander";
import { enumName } from "../../enum-name.ts";
import type { CliIo } from "../../io.ts";
import { shortName, time } from "../../registry/cells.ts";
import { addChangeOptions, type ChangeOptions, changeFields, finishChange } from "../../registry/change.ts";
import { belowTenant, versionName } from "../../registry/names.ts";
import { examples, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { printable } from "../../text-layout.ts";
import { addBreakGlassCommands } from "./break-glass.ts";

/** `persona approval …`: a second person's word on a version. */
export function addApprovalCommands(approval: Command, io: CliIo): void {
  for (const [verb, decision, description] of [
    ["approve", ApprovalDecision.APPROVE, "Approve a version; whoever submitted it cannot"],
    ["reject", ApprovalDecision.REJECT, "Reject a version: it is not approved until that is revoked"],
  ] as const) {
    const command = approval
      .command(verb)
      .description(description)
      .argument("<version>", "VECTOR@DIGEST (8 digits or more), or a full name")
      .addHelpText("after", examples([`approval ${verb} cheerful@3f2a9c01 --as bob --reason 'figures read'`]));
    addChangeOptions(command, "reason", "wait");
    onRegistry<ChangeOptions>(command, io, { roles: ["approver"] }, (session, given = "") =>
      decide(session, given, decision),
    );
  }

  const list = approval
    .command("list")
    .description("List approvals and rejections, newest first")
    .argument("[version]", "of one version: VECTOR@DIGEST (8 digits or more), or a full name")
    .addHelpText("after", examples(["approval list", "approval list cheerful@3f2a9c01 --json"]));
  onRegistry(list, io, { roles: ["viewer"] }, async (session, given) => {
    const version = given === undefined ? "" : await versionName(session, given);
    await printItems<Approval>(session.context, {
      key: "approvals",
      items: session.client.listApprovals({ parent: session.parent, version }, session.call),
      columns: [
        { heading: "APPROVAL", cell: ({ name }) => shortName(name) },
        { heading: "VERSION", cell: (it) => shortName(it.version) },
        { heading: "DECISION", cell: ({ decision }) => enumName(ApprovalDecisionSchema, decision) },
        { heading: "BY", cell: ({ approver }) => printable(approver) },
        { heading: "AT", cell: ({ createTime }) => time(createTime) },
        { heading: "EXPIRES", cell: ({ expireTime }) => time(expireTime) },
        { heading: "REVOKED", cell: ({ revokeTime }) => time(revokeTime) },
        { heading: "REASON", cell: ({ reason }) => printable(reason) },
      ],
    });
  });

  const revoke = approval
    .command("revoke")
    .description("Withdraw an approval or a rejection; what is in production stays there")
    .argument("<approval>", "as approval list shows it, or a full name")
    .addHelpText("after", examples(["approval revoke APPROVAL --reason 'the wrong one'"]));
  addChangeOptions(revoke, "reason", "etag");
  onRegistry<ChangeOptions>(revoke, io, { roles: ["approver"] }, async (session, given = "") => {
    const name = belowTenant(session, "approvals", given);
    const response = await session.client.approvals.revokeApproval(
      { name, ...changeFields(session.options) },
      session.call,
    );
    await finishChange(session, { name, response, lines: [`withdrew ${name}`] });
  });

  addBreakGlassCommands(approval.command("break-glass").description("What went past approval, and its reviews"), io);
}

async function decide(session: RegistrySession<ChangeOptions>, given: string, decision: ApprovalDecision) {
  const { client, options, call } = session;
  const version = await versionName(session, given);
  const parent = version.split("/").slice(0, 2).join("/");
  const response = await client.approvals.createApproval({ parent, version, decision, ...changeFields(options) }, call);
  const { approval, releasedRevisions, revision } = response;
  const done = decision === ApprovalDecision.APPROVE ? "approved" : "rejected";
  const until = time(approval?.expireTime);
  const lines = [
    `${done} ${shortName(version)}${until === "" ? "" : `, until ${until}`}`,
    ...releasedRevisions.map((released) => `  workers now serve ${shortName(released)}`),
  ];
  await finishChange(session, { name: version, response, lines, revision });
}
