import { coherenceBaseline } from "@persona-mesh/steering";
import { scoreUnsteered } from "../../../demo/src/judge.ts";
import { context, type Figure } from "../figure.ts";
import { guardedReplies, swept, unsteered } from "./guarded-replies.ts";
import { type GuardStage, TEMPERATURE } from "./stage.ts";
import { lateCoherence } from "./sweep.ts";

/** Beyond the validated range, where the guard has something to mend. */
const ALPHAS = [0.3, 0.4, 0.5];

const REPLIES = 32;
const MAX_TOKENS = 320;
const NEVER = new AbortController().signal;

/** What the end of a reply is like after the guard has lowered alpha, with one of the policies for its keys and values. */
export async function refillFigures(stage: GuardStage, cache: "KEEP" | "REPREFILL"): Promise<Figure[]> {
  const { client, desk, tones, onProgress } = stage;
  const common = { temperature: TEMPERATURE, twin: false, replies: REPLIES };
  const plain = await guardedReplies(client, desk, { ...common, persona: unsteered, observeOnly: true, replies: 100 });
  const baseline = coherenceBaseline(await scoreUnsteered(client, desk, plain, NEVER));
  const figures: Figure[] = [];
  for (const { name, persona } of tones) {
    for (const alpha of ALPHAS) {
      onProgress(`${name}, alpha ${alpha.toFixed(1)}, ${cache}`);
      const worn = (reply: number) => swept(persona(alpha, reply));
      const replies = await guardedReplies(client, desk, {
        ...common,
        persona: worn,
        observeOnly: false,
        maxTokens: MAX_TOKENS,
      });
      const scored = await scoreUnsteered(client, desk, replies, NEVER);
      const label = `${name}, alpha ${alpha.toFixed(1)}, guarded, ${cache}`;
      const tokens = replies.reduce((sum, { finished }) => sum + finished.completionTokens, 0) / REPLIES;
      figures.push(
        context(`${label}: coherence of the last 64 tokens`, lateCoherence(scored, baseline), ""),
        context(`${label}: tokens of a reply`, tokens, ""),
      );
    }
  }
  return figures;
}
