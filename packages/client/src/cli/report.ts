import type { Failure } from "./failure.ts";
import { type CliIo, paintFor } from "./io.ts";
import { formatMillis } from "./progress.ts";
import { printable } from "./text-layout.ts";

export interface ReportStyle {
  /** One JSON object instead of lines. */
  readonly json: boolean;
  readonly color: boolean;
}

/** Print a failure on stderr: one line, and one more for every wrong field. */
export function reportFailure(failure: Failure, io: CliIo, style: ReportStyle): void {
  io.stderr.write(
    style.json ? `${JSON.stringify({ error: failureJson(failure) })}\n` : failureText(failure, io, style),
  );
}

function failureText(failure: Failure, io: CliIo, { color }: ReportStyle): string {
  const paint = paintFor(io, io.stderr, color);
  const clean = (text: string) => printable(text).replace(/\s*\n\s*/g, " ");
  const lines = [`${paint("red", failure.code)} [${failure.reason}] ${clean(failure.message)}`];
  for (const { field, description } of failure.fieldViolations) lines.push(`  ${clean(field)}: ${clean(description)}`);
  if (failure.retryDelayMillis !== undefined) lines.push(`  retry after ${formatMillis(failure.retryDelayMillis)}`);
  if (failure.requestId !== undefined) lines.push(paint("dim", `  request id ${clean(failure.requestId)}`));
  return `${lines.join("\n")}\n`;
}

/** The failure as programs read it; fields that do not apply are left out. */
export function failureJson(failure: Failure): Record<string, unknown> {
  const { exitCode, fieldViolations, metadata, ...rest } = failure;
  return {
    ...rest,
    ...(fieldViolations.length > 0 ? { fieldViolations } : {}),
    ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
    exitCode,
  };
}
