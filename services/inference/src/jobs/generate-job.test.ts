import { ServiceError } from "@persona-mesh/service";
import { describe, expect, test } from "vitest";
import { fixture } from "../../../../packages/model/src/testing/tokenizer-fixture.ts";
import type { TokenState } from "../engine/engine-job.ts";
import type { Heads, TopState } from "../engine/heads.ts";
import { WornPersona } from "../engine/worn-persona.ts";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import type { Standing } from "../personas/persona-catalog.ts";
import { NO_EDITS, sample, uniform } from "../sampling/index.ts";
import type { RowOutcome } from "../scheduler/index.ts";
import { SteeringTable } from "../table/index.ts";
import { personaOf, rowAlong } from "../testing/personas.ts";
import { watchOf } from "../testing/watch.ts";
import { type GenerateEvent, type GenerateInput, GenerateJob } from "./generate-job.ts";

const { tokenizer } = fixture("byte-level");
const VOCABULARY = tokenizer.vocabularySize;
const LAYERS = 2;

const table = () => new SteeringTable({ rows: 8, hidden: 2, layers: LAYERS });

function jobOf(changes: Partial<GenerateInput> = {}): GenerateJob {
  const worn = changes.worn ?? new WornPersona(table(), { current: () => undefined, follow: false, gain: 1 });
  return new GenerateJob({
    tenant: "acme",
    id: "job",
    prompt: [1, 2, 3],
    worn,
    watch: watchOf(worn),
    sampling: { temperature: 0, topK: 0, topP: 1, minP: 0 },
    edits: NO_EDITS,
    choice: 0,
    stopTokens: new Set(),
    seed: 7n,
    maxTokens: 100,
    room: 100,
    stops: [],
    topLogProbs: 0,
    endTokens: new Set(),
    tokenizer,
    ...changes,
  });
}

const STATE: TokenState = { hidden: new Float32Array(2), projections: new Float32Array(LAYERS) };

/** Nothing here needs more than its candidates. */
const NO_HEADS = {
  logits: () => {
    throw new Error("the full logits were asked for");
  },
} as unknown as Heads;

/** A row whose greedy token is this one, with nearly all of the mass. */
function rowFor(id: number): TopState {
  const other = id === 0 ? 1 : 0;
  return {
    row: {
      kind: "top",
      ids: Int32Array.of(id, other),
      logits: Float32Array.of(30, 0),
      vocabulary: VOCABULARY,
      logSumExp: 30,
      temperedLogSumExp: 30,
    },
    entropy: 0.25,
  };
}

/** Let the job write these tokens, until it has enough of them. */
async function write(job: GenerateJob, ids: readonly number[], state = STATE): Promise<RowOutcome> {
  let outcome: RowOutcome = { kind: "continue" };
  job.beforeStep();
  for (const id of ids) {
    outcome = await job.sample(state, rowFor(id), NO_HEADS);
    if (outcome.kind !== "continue") return outcome;
    job.beforeStep();
  }
  return outcome;
}

/** Everything that the job told, once it is over. */
async function eventsOf(job: GenerateJob): Promise<GenerateEvent[]> {
  const events: GenerateEvent[] = [];
  for await (const event of job.events) events.push(event);
  return events;
}

const textOf = (events: readonly GenerateEvent[]) =>
  events.map((event) => ("text" in event ? event.text : "")).join("");

describe("text", () => {
  test("a character of several tokens comes whole, with the last of them", async () => {
    const text = "Größe ✓ 您好 👍🏽!";
    const ids = tokenizer.encode(text);
    expect(ids.length).toBeGreaterThan([...text].length);
    const job = jobOf();
    await write(job, ids);
    job.ended({ kind: "finished", reason: "maxTokens" });
    const pieces = (await eventsOf(job)).flatMap((event) => ("text" in event ? [event.text] : []));
    expect(pieces.join("")).toBe(text);
    expect(pieces.filter((piece) => piece === "").length).toBeGreaterThan(0);
    for (const piece of pieces) expect(piece).not.toContain("\uFFFD");
  });

  test("a character that the end cuts off shows as one that is broken, after everything else", async () => {
    const job = jobOf({ maxTokens: 1 });
    const [first] = tokenizer.encode("✓");
    expect(await write(job, [first as number])).toEqual({ kind: "finish", reason: "maxTokens" });
    job.ended({ kind: "finished", reason: "maxTokens" });
    const events = await eventsOf(job);
    expect(events.at(-1)).toMatchObject({ kind: "finished", text: "\uFFFD" });
  });

  test("a stop string over several tokens ends the reply, and nothing of it or after it is shown", async () => {
    const ids = tokenizer.encode("one two END three");
    const job = jobOf({ stops: ["END"] });
    expect(await write(job, ids)).toEqual({ kind: "finish", reason: "stop" });
    job.ended({ kind: "finished", reason: "stop" });
    expect(textOf(await eventsOf(job))).toBe("one two ");
  });

  test("what could have begun a stop string is text after all at the end", async () => {
    const job = jobOf({ stops: ["END"] });
    await write(job, tokenizer.encode("one EN"));
    job.ended({ kind: "finished", reason: "maxTokens" });
    const events = await eventsOf(job);
    expect(textOf(events)).toBe("one EN");
    expect(events.at(-1)).toMatchObject({ kind: "finished", text: "EN" });
  });

  test("an embedding that the tokenizer has no token for is a token without text", async () => {
    const job = jobOf();
    await write(job, [...tokenizer.encode("a"), VOCABULARY + 3, ...tokenizer.encode("b")]);
    job.ended({ kind: "finished", reason: "maxTokens" });
    expect(textOf(await eventsOf(job))).toBe("ab");
  });
});

describe("ends", () => {
  test.each([
    [{ maxTokens: 2, room: 9 }, "maxTokens"],
    [{ maxTokens: 2, room: 2 }, "maxTokens"],
    [{ maxTokens: 9, room: 2 }, "context"],
  ] as const)("%o: %s after two tokens", async (limits, reason) => {
    const job = jobOf(limits);
    expect(await write(job, [5, 6, 7])).toEqual({ kind: "finish", reason });
    job.ended({ kind: "finished", reason });
    expect((await eventsOf(job)).at(-1)).toMatchObject({ kind: "finished", reply: { reason, tokens: 2 } });
  });

  test("an end token is told and counted, and has no text", async () => {
    const [letter] = tokenizer.encode("a");
    const job = jobOf({ endTokens: new Set([6]) });
    expect(await write(job, [letter as number, 6, 7])).toEqual({ kind: "finish", reason: "end" });
    job.ended({ kind: "finished", reason: "end" });
    const events = await eventsOf(job);
    expect(events.filter(({ kind }) => kind === "token")).toMatchObject([
      { text: "a", token: { id: letter } },
      { text: "", token: { id: 6 } },
    ]);
    expect(events.at(-1)).toMatchObject({ reply: { tokens: 2 } });
  });

  test("a job that is cancelled fails its reader after what it has written", async () => {
    const job = jobOf();
    await write(job, tokenizer.encode("a"));
    job.ended({ kind: "cancelled" });
    const seen: string[] = [];
    const reading = (async () => {
      for await (const event of job.events) seen.push(event.kind);
    })();
    await expect(reading).rejects.toMatchObject({ reason: "CANCELLED" });
    expect(seen).toEqual(["started", "token"]);
  });

  test("a job that never ran has no figures", async () => {
    const job = jobOf();
    expect(job.measures()).toBeUndefined();
    job.ended({ kind: "drained" });
    await expect(eventsOf(job)).rejects.toMatchObject({ reason: "DRAINING" });
  });
});

describe("tokens", () => {
  test("the random number of a token depends on seed and position alone", async () => {
    const flat: TopState = {
      row: {
        kind: "top",
        ids: Int32Array.from({ length: VOCABULARY }, (_, id) => id),
        logits: new Float32Array(VOCABULARY),
        vocabulary: VOCABULARY,
        logSumExp: Math.log(VOCABULARY),
        temperedLogSumExp: Math.log(VOCABULARY),
      },
      entropy: Math.log(VOCABULARY),
    };
    const drawn = async (seed: bigint, count: number) => {
      const job = jobOf({ seed, sampling: { temperature: 1, topK: 0, topP: 1, minP: 0 } });
      const ids: number[] = [];
      job.beforeStep();
      for (let i = 0; i < count; i++) {
        await job.sample(STATE, flat, NO_HEADS);
        ids.push(job.nextToken);
      }
      return ids;
    };
    const ids = await drawn(1n, 20);
    expect(await drawn(1n, 20)).toEqual(ids);
    expect(await drawn(1n, 5)).toEqual(ids.slice(0, 5));
    expect(await drawn(2n, 20)).not.toEqual(ids);
    expect(new Set(ids).size).toBeGreaterThan(15);
  });

  test("a draw that the candidates do not decide takes the full logits of its own hidden state", async () => {
    const sampling = { temperature: 1, topK: 0, topP: 1, minP: 0 };
    const job = jobOf({ sampling });
    const logits = Float32Array.from({ length: VOCABULARY }, (_, id) => (id === 5 ? 0.2 : id === 0 ? 0.1 : 0));
    const sum = Math.log(logits.reduce((total, logit) => total + Math.exp(logit), 0));
    const { row } = rowFor(5);
    // Two candidates of hundreds that are as likely.
    const undecided = {
      row: { ...row, logits: Float32Array.of(0.2, 0.1), logSumExp: sum, temperedLogSumExp: sum },
      entropy: 6,
    };
    const hidden = Float32Array.of(3, 4);
    const asked: Float32Array[] = [];
    const heads = {
      logits: async (of: Float32Array) => {
        asked.push(of);
        return logits;
      },
    } as unknown as Heads;
    job.beforeStep();
    await job.sample({ ...STATE, hidden }, undecided, heads);
    expect(sample({ kind: "full", logits }, sampling, uniform(7n, 0, 0))).toMatchObject({ id: job.nextToken });
    expect(job.nextToken).not.toBe(5);
    expect(asked).toEqual([hidden]);
  });

  test("figures are means over the tokens so far", async () => {
    const job = jobOf();
    await write(job, [5, 6, 7, 8]);
    expect(job.measures()).toMatchObject({ tokens: 4, entropy: 0.25 });
    await write(job, [9]);
    expect(job.measures()).toMatchObject({ tokens: 5 });
  });

  test("there is no next token before the first", () => {
    expect(() => jobOf().nextToken).toThrow("before its first token");
  });
});

describe("a persona", () => {
  const ONE = personaOf("one", new Map([[1, rowAlong(2, 4)]]));
  const TWO = personaOf(
    "two",
    new Map([
      [0, rowAlong(2, 3)],
      [1, rowAlong(2, 5)],
    ]),
  );

  const revoked = new ServiceError("VERSION_REVOKED", "revoked");

  /** Pinned to a persona whose standing the test decides. */
  function governed() {
    const source: { standing: Standing } = { standing: { kind: "served", capHundredths: 80 } };
    const steering = new SteeringTable({ rows: 8, hidden: 2, layers: LAYERS });
    const standing = () => source.standing;
    const worn = new WornPersona(steering, { current: () => ONE, follow: false, gain: 1, standing });
    worn.admit();
    return { source, steering, job: jobOf({ worn }) };
  }

  test("a version revoked in the middle of a stream goes at the next step, and the caller is told", async () => {
    const { source, steering, job } = governed();
    await write(job, [5]);
    source.standing = { kind: "withdrawn", policy: "REMOVE", error: revoked };
    await write(job, [6, 7]);
    expect(job.worn.steering.lease).toBeUndefined();
    expect(steering.figures().rowsHeld).toBe(0);
    job.ended({ kind: "finished", reason: "maxTokens" });
    const events = await eventsOf(job);
    expect(events.map(({ kind }) => kind)).toEqual(["started", "token", "switched", "token", "token", "finished"]);
    expect(events[2]).toMatchObject({ persona: undefined, afterTokens: 1 });
  });

  test("by the policy END the stream ends with the reason, and what is revoked does not act in its last step", async () => {
    const { source, steering, job } = governed();
    await write(job, [5]);
    source.standing = { kind: "withdrawn", policy: "END", error: revoked };
    job.beforeStep();
    expect(job.worn.steering.lease).toBeUndefined();
    expect(steering.figures().rowsHeld).toBe(0);
    expect(await job.sample(STATE, rowFor(6), NO_HEADS)).toEqual({ kind: "fail", error: revoked });
  });

  test("a cap that is lowered takes gain by steps of 0.1, told as a switch to the same persona", async () => {
    const { source, job } = governed();
    await write(job, [5]);
    source.standing = { kind: "served", capHundredths: 35 };
    await write(job, [6]);
    expect(job.worn.steering.gain).toBeCloseTo(0.6, 12);
    job.ended({ kind: "finished", reason: "maxTokens" });
    const switched = (await eventsOf(job)).find(({ kind }) => kind === "switched");
    expect(switched).toMatchObject({ persona: ONE, gain: 0.6, afterTokens: 1 });
  });

  function wearing(first: LoadedPersona | undefined, rows = 8) {
    const source = { persona: first };
    const steering = new SteeringTable({ rows, hidden: 2, layers: LAYERS });
    const worn = new WornPersona(steering, { current: () => source.persona, follow: true, gain: 1 });
    worn.admit();
    return { source, job: jobOf({ worn }) };
  }

  test("projections are along the unit row, in reference norms, for the layers that it doses", async () => {
    const { job } = wearing(ONE);
    // ⟨h, row⟩ = 12 with a row of length 4 is 3 along the unit row: 1.5 reference norms of 2.
    await write(job, [5], { ...STATE, projections: Float32Array.of(99, 12) });
    job.ended({ kind: "finished", reason: "maxTokens" });
    const events = await eventsOf(job);
    expect(events[0]).toEqual({ kind: "started", persona: ONE, gain: 1 });
    expect(events[1]).toMatchObject({ token: { projections: [1.5] } });
  });

  test("a switch is told between the tokens that it lies between", async () => {
    const { source, job } = wearing(ONE);
    await write(job, [5, 6]);
    source.persona = TWO;
    await write(job, [7]);
    source.persona = undefined;
    await write(job, [8]);
    job.ended({ kind: "finished", reason: "maxTokens" });
    const events = await eventsOf(job);
    const told = events.map((event) =>
      event.kind === "token"
        ? event.token.projections.length
        : event.kind === "switched"
          ? `${event.persona?.revision} after ${event.afterTokens}`
          : event.kind,
    );
    expect(told).toEqual(["started", 1, 1, "two after 2", 2, "undefined after 3", 0, "finished"]);
  });

  test("one that the table can never hold ends the request and nobody else's step", async () => {
    const { source, job } = wearing(ONE, 2);
    await write(job, [5]);
    source.persona = TWO;
    job.beforeStep();
    const outcome = await job.sample(STATE, rowFor(6), NO_HEADS);
    expect(outcome).toEqual({ kind: "fail", error: expect.objectContaining({ reason: "TABLE_TOO_SMALL" }) });
  });
});
