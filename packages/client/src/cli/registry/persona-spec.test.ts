import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CompositionPolicy, Mode, Positions } from "@persona-mesh/protocol";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { NameScope } from "./names.ts";
import { specOf } from "./persona-spec.ts";

const scope = { parent: "tenants/acme" } as NameScope;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-spec-"));
});
afterAll(() => rm(folder, { recursive: true }));

const alias = (vector: string) => `tenants/acme/vectors/${vector}/aliases/production`;

it("terms have a vector, an alpha with its sign, and layers", async () => {
  const term = ["cheerful@production=0.29", "formal@production=-.1@2-4,7"];
  expect(await specOf(scope, { term, mode: "add-renorm", positions: "generated", policy: "scale" }, folder)).toEqual({
    terms: [
      { vector: alias("cheerful"), alphaHundredths: 29, layers: [] },
      { vector: alias("formal"), alphaHundredths: -10, layers: [2, 3, 4, 7] },
    ],
    mode: Mode.ADD_RENORM,
    positions: Positions.GENERATED,
    policy: CompositionPolicy.SCALE,
  });
});

it.each(["cheerful@production", "cheerful@production=", "cheerful@production=loud", "x@y=0.123", "x@y=0.1@z", "=0.1"])(
  "%j is no term",
  async (term) => {
    await expect(specOf(scope, { term: [term] }, folder)).rejects.toMatchObject({ reason: "TERM_INVALID" });
  },
);

it("nothing said is nothing written, and half of it is refused", async () => {
  expect(await specOf(scope, {}, folder)).toBeUndefined();
  await expect(specOf(scope, { mode: "add" }, folder)).rejects.toMatchObject({ reason: "OPTIONS_CONFLICT" });
});

it("a file says the same, in words of either case", async () => {
  const terms = [
    { vector: "cheerful@production", alpha: 0.29 },
    { vector: alias("formal"), alpha: -0.1, layers: [3] },
  ];
  await writeFile(join(folder, "spec.json"), JSON.stringify({ terms, mode: "ADD_RENORM", policy: "reject" }));
  expect(await specOf(scope, { file: "spec.json" }, folder)).toEqual({
    terms: [
      { vector: alias("cheerful"), alphaHundredths: 29, layers: [] },
      { vector: alias("formal"), alphaHundredths: -10, layers: [3] },
    ],
    mode: Mode.ADD_RENORM,
    policy: CompositionPolicy.REJECT,
  });
});

it.each([
  [{ terms: [] }, "terms"],
  [{ terms: [{ vector: "x@y", alpha: 0.123 }] }, "at most two decimals"],
  [{ terms: [{ vector: "x@y", alpha: 0.1 }], modes: "ADD" }, "modes"],
])("a file that is none is refused by the field: %j", async (spec, field) => {
  await writeFile(join(folder, "bad.json"), JSON.stringify(spec));
  const reading = specOf(scope, { file: "bad.json" }, folder);
  await expect(reading).rejects.toMatchObject({ reason: "FILE_INVALID", message: expect.stringContaining(field) });
});
