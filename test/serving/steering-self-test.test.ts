import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildBody, GraphWeights } from "@persona-mesh/model/graph";
import { verifyPackage } from "@persona-mesh/model/verify";
import { expect, onTestFinished, test } from "vitest";
import { graphDigest, sha256Hex } from "../../packages/model/src/package/digests.ts";
import { parseManifest } from "../../packages/model/src/package/manifest.ts";
import { starterPackage } from "../support/starter-package.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { openTestWorker } from "../support/test-worker.ts";

/** A package that agrees with itself, whose serving graph takes steering rows and does nothing with them. */
async function packageThatIgnoresRows(): Promise<string> {
  const folder = await starterPackage(join(await temporaryFolder(), "model"));
  const path = join(folder, "manifest.json");
  const manifest = parseManifest(await readFile(path, "utf8"));
  const { spec, weights, weightsFile, precision, graphs, files } = manifest;
  const body = Buffer.from(
    buildBody(spec, new GraphWeights(weights, weightsFile, precision), { steering: "off", residuals: false }),
  );
  const name = graphs["body"] as string;
  await writeFile(join(folder, name), body);
  files[name] = { bytes: body.byteLength, sha256: sha256Hex(body) };
  const byRole = Object.fromEntries(
    Object.entries(graphs).map(([role, file]) => [role, files[file]?.sha256 as string]),
  );
  manifest.graphDigest = graphDigest(byRole, weights);
  await writeFile(path, JSON.stringify(manifest));
  return folder;
}

test("a worker whose model ignores its personas does not start, and says why", async () => {
  const model = await packageThatIgnoresRows();
  const error = await openTestWorker({ model }).catch((reason: unknown) => reason);
  expect(error).toMatchObject({
    reason: "STEERING_SELF_TEST_FAILED",
    message: expect.stringMatching(/"body"/),
    metadata: { moved: "0" },
  });
  const { checks } = await verifyPackage(model, { threads: 1 });
  expect(checks.find((check) => check.name === "steering-delta")?.outcome).toBe("failed");
});

test("a worker shows in well under a second that steering acts, and its table is empty then", async () => {
  const worker = await openTestWorker();
  onTestFinished(() => worker.close());
  const shown = worker.log().find(({ msg }) => msg === "steering acts as predicted") as { millis: number };
  expect(shown).toMatchObject({ layers: [0, 3, 5], figures: { logitChange: expect.any(Number) } });
  expect(shown.millis).toBeLessThan(1_000);
  expect(worker.running.worker.table.figures()).toMatchObject({ rowsInUse: 0, misses: 0 });
  expect(worker.running.worker.table.values.every((value) => value === 0)).toBe(true);
});
