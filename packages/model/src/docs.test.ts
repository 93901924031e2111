import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { SUPPORTED_MODEL_TYPES } from "./checkpoint/config.ts";
import { PRECISION_NAMES } from "./graph/index.ts";
import { CHECK_NAMES } from "./verify/index.ts";

const docs = readFileSync(new URL("../../../docs/models.md", import.meta.url), "utf8");

it("docs/models.md lists every architecture and every precision", () => {
  for (const type of SUPPORTED_MODEL_TYPES) expect(docs).toContain(` | \`${type}\` | `);
  for (const name of PRECISION_NAMES) expect(docs).toContain(`\n| \`${name}\` | `);
});

it("docs/models.md lists the checks in their order", () => {
  const section = docs.split("\n## Verify\n")[1]?.split("\n## ")[0] ?? "";
  expect([...section.matchAll(/^\| `([a-z-]+)` \| /gm)].map(([, name]) => name)).toEqual(CHECK_NAMES);
});

it("docs/models.md says what to do about every reason of checkpoints and packages", () => {
  const source = readFileSync(new URL("errors.ts", import.meta.url), "utf8");
  const reasons = [...source.matchAll(/\| "((?:CHECKPOINT|MODEL_PACKAGE)_[A-Z_]+)"/g)].map(([, reason]) => reason);
  expect(reasons.length).toBeGreaterThan(12);
  for (const reason of reasons) expect(docs).toContain(`\n| \`${reason}\` | `);
});
