import { GuardCauseSchema, type GuardEvent, type PersonaProof } from "@persona-mesh/protocol";
import type { Reply } from "../reply.ts";
import { enumName } from "./enum-name.ts";
import { heatMeaning, MAX_SHADE, SHADE_WIDTH, shadeOf, signed } from "./heat.ts";
import { heatChart } from "./heat-chart.ts";
import { HEAT_STYLE } from "./heat-style.ts";
import type { HeatPiece } from "./heat-trace.ts";
import { printable } from "./text-layout.ts";

export interface HeatPageInput {
  readonly prompt: string;
  readonly reply: Reply;
  readonly pieces: readonly HeatPiece[];
  /** Where the projections were measured; undefined for a reply without a persona. */
  readonly layer: number | undefined;
}

/**
 * A reply as a page of its own, coloured by projection: no script, nothing from elsewhere, light or dark as the reader has it.
 * Whatever a model, a caller or a server wrote is text in it, never markup.
 */
export function heatPage({ prompt, reply, pieces, layer }: HeatPageInput): string {
  const { started, finished } = reply;
  const title = started.persona === undefined ? "Unsteered reply" : `Reply of ${personaName(started.persona)}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${HEAT_STYLE}</style>
</head>
<body>
<h1>${escaped(title)}</h1>
<p class="prompt">${escaped(prompt)}</p>
${layer === undefined ? "<p>No persona: nothing to colour.</p>" : legend(layer)}
<p class="reply">${pieces.map(pieceSpan(alphaAt(reply))).join("")}</p>
${heatChart(
  pieces.flatMap((piece) => piece.tokens.map(({ entropy }) => ({ entropy, projection: piece.projection }))),
  finished,
)}
${guardList(finished.guardEvents)}
<h2>Proof</h2>
<table>${proofRows(reply)
    .map(([name, value]) => `<tr><th>${escaped(name)}</th><td>${escaped(value)}</td></tr>`)
    .join("")}</table>
</body>
</html>
`;
}

/**
 * Text that is no markup wherever it stands, in an element or in a quoted attribute; what would steer the reader's eye, such
 * as a change of direction, is shown as in a terminal.
 */
export function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return printable(text).replace(/[&<>"']/g, (character) => entities[character] as string);
}

function legend(layer: number): string {
  const shades = Array.from({ length: 2 * MAX_SHADE + 1 }, (_, index) => index - MAX_SHADE);
  const swatches = shades.map((shade) => `<span class="${shadeClass(shade)}">${signed(shade * SHADE_WIDTH, 1)}</span>`);
  return `<p class="legend">${swatches.join("")} ${escaped(heatMeaning(layer))}</p>`;
}

const shadeClass = (shade: number) => (shade === 0 ? "zero" : `${shade < 0 ? "against" : "along"}${Math.abs(shade)}`);

/** Piece by piece, with the figures of its tokens for whoever points at it. */
function pieceSpan(alphaOf: (token: number) => number | undefined): (piece: HeatPiece) => string {
  let next = 0;
  return ({ text, tokens, projection }) => {
    const first = next;
    next += tokens.length;
    const figures = tokens.map(({ entropy, logProb }, index) => {
      const alpha = alphaOf(first + index);
      return [
        `token ${first + index + 1}`,
        `entropy ${entropy.toFixed(2)}`,
        `log-probability ${signed(logProb, 2)}`,
        ...(alpha === undefined ? [] : [`alpha ${(alpha / 100).toFixed(2)}`]),
      ].join(" · ");
    });
    const heat = projection === undefined ? [] : [`projection ${signed(projection, 3)}`];
    const style = shadeClass(projection === undefined ? 0 : shadeOf(projection));
    return `<span class="${style}" title="${escaped([...heat, ...figures].join("\n"))}">${escaped(text)}</span>`;
  };
}

/** Effective alpha by token, in hundredths; undefined where the worker told none. */
function alphaAt({ finished }: Reply): (token: number) => number | undefined {
  return (token) => finished.alphas.findLast(({ fromToken }) => fromToken <= token)?.alphaHundredths;
}

function guardList(events: readonly GuardEvent[]): string {
  if (events.length === 0) return "";
  const items = events.map((event) => {
    const cause = enumName(GuardCauseSchema, event.cause).toLowerCase().replace("_", " ");
    const [before, after] = [event.alphaBeforeHundredths, event.alphaAfterHundredths];
    const acted = before === after ? `alpha stays ${alpha(before)}` : `alpha ${alpha(before)} → ${alpha(after)}`;
    return `after ${event.afterTokens} tokens: ${cause}, ${acted} (entropy ratio ${event.entropyRatio.toFixed(2)}, repetition ${event.repetition.toFixed(2)})`;
  });
  return `<h2>Guard</h2>\n<ul>${items.map((item) => `<li>${escaped(item)}</li>`).join("")}</ul>`;
}

function proofRows({ started, finished, switches }: Reply): [name: string, value: string][] {
  const { persona } = started;
  const coherence = finished.coherence?.score;
  return [
    ["request", started.requestId],
    ["model", started.modelChecksum],
    ["graph", started.graphDigest],
    ["seed", String(started.seed)],
    ["tokens", `${finished.promptTokens} + ${finished.completionTokens}`],
    ["mean entropy", `${finished.meanEntropy.toFixed(3)} nats`],
    ...(coherence === undefined ? [] : [["coherence", coherence.toFixed(3)] as [string, string]]),
    ...(persona === undefined ? [] : personaRows(persona)),
    ...switches.map((change): [string, string] => [
      `from token ${change.afterTokens + 1}`,
      change.persona === undefined ? "no persona" : personaName(change.persona),
    ]),
  ];
}

function personaRows(persona: PersonaProof): [string, string][] {
  return [
    ["persona", personaName(persona)],
    ["revision", persona.revision],
    ["versions", persona.versionDigests.join(", ")],
    ["alpha", alpha(persona.effectiveAlphaHundredths)],
    ["dose by layer", persona.doses.map(({ layer, dose }) => `${layer}: ${dose.toFixed(3)}`).join(", ")],
  ];
}

const alpha = (hundredths: number) => (hundredths / 100).toFixed(2);

const personaName = ({ name }: PersonaProof) => name || "an inline persona";
