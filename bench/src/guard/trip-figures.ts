import { atMost, context, type Figure } from "../figure.ts";
import { type Condition, type GuardedReply, guardedReplies, tripShare, unsteered } from "./guarded-replies.ts";
import { type GuardStage, TEMPERATURE } from "./stage.ts";

/** Replies of each kind whose trips are counted. */
const COUNTED = 250;

/** Of the validated range. */
const SHARES = [0.5, 0.75, 1];

/** Percent. */
const GOAL = { unsteered: 1, steered: 2 };

/** Unsteered replies, with and without a system line, as a desk samples and as the model does. */
export function falseTrips(stage: GuardStage): Promise<Figure[]> {
  const systemLines = Object.values(stage.desk.systemLines);
  const conditions = [TEMPERATURE, 1].flatMap((temperature) => {
    const name = `unsteered, temperature ${temperature}`;
    return [
      { name, persona: unsteered, temperature },
      { name: `${name}, with a system line`, persona: unsteered, temperature, systemLines },
    ];
  });
  return tripsOf(stage, "unsteered replies", GOAL.unsteered, conditions);
}

/** Steered replies within the range that a persona was validated for. */
export function tripsWithinRange(stage: GuardStage): Promise<Figure[]> {
  const conditions = stage.tones.flatMap(({ name, recommended = 0, persona }) =>
    SHARES.map((share) => {
      const alpha = Math.round(100 * share * recommended) / 100;
      const worn = (reply: number) => persona(alpha, reply);
      return { name: `${name}, alpha ${alpha.toFixed(2)}`, persona: worn, temperature: TEMPERATURE };
    }),
  );
  return tripsOf(stage, "steered replies within the validated range", GOAL.steered, conditions);
}

type Named = Pick<Condition, "persona" | "temperature" | "systemLines"> & { readonly name: string };

/** Of a guard that only watches, on prompts and seeds that differ from condition to condition. */
async function tripsOf(
  { client, desk, onProgress }: GuardStage,
  what: string,
  goal: number,
  conditions: readonly Named[],
): Promise<Figure[]> {
  const all: GuardedReply[] = [];
  const parts: Figure[] = [];
  for (const { name, ...condition } of conditions) {
    onProgress(name);
    const counted = { observeOnly: true, twin: false, from: all.length, replies: COUNTED };
    const replies = await guardedReplies(client, desk, { ...condition, ...counted });
    all.push(...replies);
    parts.push(context(`${name}: replies that trip`, 100 * tripShare(replies), "%"));
  }
  return [atMost(`${what} that trip`, 100 * tripShare(all), "%", goal), ...parts];
}
