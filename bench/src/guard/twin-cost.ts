import { atMost, context, type Figure } from "../figure.ts";
import { median, medianInterval } from "../statistics.ts";
import { guardedReplies } from "./guarded-replies.ts";
import { type GuardStage, TEMPERATURE } from "./stage.ts";

const BLOCKS = 15;
const REPLIES = 32;
const ALPHA = 0.2;

/** Throughput that twins cost, where there is room for all of them: half of the slots write, the others read. */
export async function twinCost({ client, desk, tones, onProgress }: GuardStage): Promise<Figure[]> {
  const [tone] = tones;
  if (tone === undefined) throw new Error("twins need something that is steered");
  const persona = (reply: number) => tone.persona(ALPHA, reply);
  const seconds = async (twin: boolean, from: number) => {
    const started = performance.now();
    const condition = { persona, temperature: TEMPERATURE, observeOnly: true, from, replies: REPLIES };
    const replies = await guardedReplies(client, desk, { ...condition, twin });
    const compared = replies.reduce((sum, { finished }) => sum + (finished.twin?.tokens ?? 0), 0);
    const written = replies.reduce((sum, { tokens }) => sum + tokens.length, 0);
    return { time: performance.now() - started, share: compared / written };
  };
  const losses: number[] = [];
  const shares: number[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    onProgress(`twins, block ${block + 1} of ${BLOCKS}`);
    // The same replies with and without, in an order that turns.
    const order = block % 2 === 0 ? [false, true] : [true, false];
    const times = new Map<boolean, number>();
    for (const twin of order) {
      const { time, share } = await seconds(twin, block * REPLIES);
      times.set(twin, time);
      if (twin) shares.push(share);
    }
    losses.push(100 * (1 - (times.get(false) as number) / (times.get(true) as number)));
  }
  const { low, high } = medianInterval(losses);
  return [
    context("twins of every reply: share of its tokens compared", 100 * median(shares), "%"),
    atMost("throughput lost per 1 % of requests twinned", median(losses) / 100, "%", 1),
    context("the same, 95 % from", low / 100, "%"),
    context("the same, 95 % to", high / 100, "%"),
  ];
}
