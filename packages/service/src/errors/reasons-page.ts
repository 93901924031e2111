import { status } from "@grpc/grpc-js";
import { REASONS, type Reason, reasonEntry } from "./reasons.ts";
import { DEFAULT_RETRY_DELAY_MS } from "./service-error.ts";

/** `docs/errors.md`: the table of reasons for people. */
export function renderReasonsPage(): string {
  const reasons = Object.keys(REASONS) as Reason[];
  const rows = reasons.map((reason) => {
    const { code, meaning, remedy, retry, exitCode } = reasonEntry(reason);
    return `| \`${reason}\` | ${status[code]} | ${meaning} | ${remedy} | ${retry === "never" ? "no" : "yes"} | ${exitCode ?? ""} |`;
  });
  return `${INTRODUCTION}${rows.join("\n")}\n`;
}

const INTRODUCTION = `# Error reasons

Every failed call ends with a \`google.rpc.Status\` in \`grpc-status-details-bin\`: an \`ErrorInfo\` with one of the reasons below,
the domain \`persona-mesh\`, and the numbers and names behind the message as metadata, always with \`requestId\`; \`BadRequest\`
where fields of the request are wrong; \`RetryInfo\` where the same call can succeed later (after ${DEFAULT_RETRY_DELAY_MS} ms unless it says
otherwise). Reasons and their codes never change. \`INTERNAL\` hides its cause: the server's log has it under the request id.

A service that cannot start writes the reason and ends with the exit code; 1 where none is listed.

This page is generated from \`packages/service/src/errors/reasons.ts\` by \`npm run docs:errors -w @persona-mesh/service\`.

| reason | code | what happened | what to do | retry | exit code |
|---|---|---|---|---|---|
`;
