import type { GenerateEvent } from "@persona-mesh/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { personaName } from "../support/personas.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { until } from "../support/until.ts";

const PERSONA = personaName("acme", "loud");

let stage: Stage;

beforeAll(async () => {
  stage = await openStage({ slots: 1, chunkTokens: 16 }, [{ name: "loud", seed: 1, layers: [2, 3] }]);
});

afterAll(() => stage.mesh.close());

/** Charged as much as the context holds, which is more than a tenant can have saved up: it gives way to who asks for little. */
const long = ask("hello", { maxTokens: 1_000_000, as: PERSONA });

const figures = () => stage.mesh.running.worker.engine.figures();
const preemptions = () => stage.mesh.running.worker.engine.swapFigures().preemptions;

test("a reply beyond its tenant's share gives its slot up and goes on to the same tokens, and says for how long it waited", async () => {
  const alone = await stage.client.generateText(long);
  expect(alone.finished.preemptedMillis).toBe(0);
  const other = await stage.mesh.client({ tenant: "globex" });
  const before = preemptions();

  const events: GenerateEvent[] = [];
  const short: Promise<unknown>[] = [];
  let ended = 0;
  for await (const event of stage.client.generate(long)) {
    events.push(event);
    const tokens = events.filter(({ case: kind }) => kind === "tokens").length;
    if (event.case !== "tokens" || (tokens !== 5 && tokens !== 40)) continue;
    const call = other.generateText(ask("hi", { maxTokens: 3 })).then(({ finished }) => {
      ended++;
      expect(finished).toMatchObject({ completionTokens: 3, preemptedMillis: 0 });
    });
    short.push(call);
    await call;
    // It was not the long one's end that made room.
    expect(events.at(-1)?.case).toBe("tokens");
  }
  await Promise.all(short);
  expect(ended).toBe(2);
  expect(preemptions() - before).toBe(2);
  const finished = events.find((event) => event.case === "finished")?.value;
  expect(finished?.preemptedMillis).toBeGreaterThan(0);
  expect(finished?.preemptedMillis).toBeLessThanOrEqual((finished?.prefillMillis ?? 0) + (finished?.decodeMillis ?? 0));
  const texts = events.flatMap((event) => (event.case === "tokens" ? [event.value] : []));
  expect(texts.flatMap(({ tokens }) => tokens.map(({ id }) => id))).toEqual(fingerprint(alone).ids);
});

test("one that waits to go on can be cancelled, and another call's tokens are no other for it", async () => {
  const other = await stage.mesh.client({ tenant: "globex" });
  const endless = other.generate(ask("hi", { maxTokens: 200 }));
  const running = stage.client.generate(long);
  await running.next();
  await endless.next();
  await until(() => figures().preempted === 1, "the long one has given its slot up");
  await running.return();
  await until(() => figures().preempted === 0, "it is gone");
  expect(stage.mesh.running.worker.engine.swapFigures().bytes).toBe(0);
  await endless.return();
  await until(() => figures().running === 0, "nothing runs");
  expect(stage.mesh.running.worker.table.figures().rowsHeld).toBe(0);
});
