import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { InferenceClient } from "@persona-mesh/client";
import { ClientError, ensureDevKeys, signDevToken } from "@persona-mesh/service";
import { expect, onTestFinished, test } from "vitest";
import { ask } from "../support/requests.ts";
import { starterPackage } from "../support/starter-package.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";
import { startWorkerProcess } from "../support/worker-process.ts";

const CALLERS = 16;
const TOKENS = 40;

test("SIGTERM while callers keep coming: what was let in is served whole, the rest is told to try elsewhere", async () => {
  const folder = await temporaryFolder();
  const dataDir = join(folder, "data");
  const model = await starterPackage(join(folder, "model"));
  const worker = await startWorkerProcess({ model, "data-dir": dataDir, slots: "4", "drain-seconds": "60" });
  const keys = await ensureDevKeys(dataDir);
  const token = await signDevToken(keys, { subject: "tester", tenant: "acme", roles: ["operator"] });
  const clients = Array.from({ length: CALLERS }, () => new InferenceClient({ address: worker.address, token }));
  onTestFinished(() => {
    for (const client of clients) client.close();
  });

  let served = 0;
  /** One call after another, until one fails. @returns its failure, and how many pieces of its reply had come by then */
  const call = async (client: InferenceClient) => {
    for (;;) {
      let pieces = 0;
      try {
        const reply = await client.generateText(ask("hello", { maxTokens: TOKENS }), {}, () => {
          pieces++;
        });
        expect(reply.finished.completionTokens).toBe(TOKENS);
        expect(reply.tokens).toHaveLength(TOKENS);
        served++;
      } catch (error) {
        if (!(error instanceof ClientError)) throw error;
        return { code: error.code, reason: error.reason, pieces };
      }
    }
  };
  const ends = clients.map(call);
  await until(() => served >= 2 * CALLERS, "everybody is at work");
  worker.child.kill("SIGTERM");
  for (const end of await Promise.all(ends)) {
    expect(end).toMatchObject({ code: status.UNAVAILABLE, pieces: 0 });
    expect(["DRAINING", "UNAVAILABLE"]).toContain(end.reason);
  }
  expect(await worker.ended).toBe(0);
  const calls = worker.log().filter(({ msg }) => msg === "call ended");
  // The worker tells of as many whole replies as came, and of nothing but those and the refusals.
  expect(calls.filter(({ code }) => code === "OK")).toHaveLength(served);
  expect(calls.filter(({ reason }) => reason !== undefined && reason !== "DRAINING")).toEqual([]);
});
