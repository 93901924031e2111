import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { isReason, REASONS, type Reason, reasonEntry } from "./reasons.ts";
import { renderReasonsPage } from "./reasons-page.ts";

const root = new URL("../../../../", import.meta.url).pathname;
const reasons = Object.keys(REASONS) as Reason[];

test("docs/errors.md is the table of reasons", () => {
  expect(readFileSync(join(root, "docs/errors.md"), "utf8")).toBe(renderReasonsPage());
});

test("every reason has a failing code, is spelled as a constant, and fits in one row of a table", () => {
  for (const reason of reasons) {
    const { code, meaning, remedy } = reasonEntry(reason);
    expect(status[code], reason).toBeDefined();
    expect(code, reason).not.toBe(status.OK);
    expect(reason).toMatch(/^[A-Z][A-Z_]+$/);
    expect(`${meaning}${remedy}`, reason).not.toMatch(/[\n|]/);
  }
});

test("every service error in the sources has a reason of the table", () => {
  const used = sources().flatMap((path) =>
    [...readFileSync(path, "utf8").matchAll(/new ServiceError\(\s*"([^"]+)"/g)].map(([, reason]) => ({ path, reason })),
  );
  expect(used.length).toBeGreaterThan(20);
  expect(used.filter(({ reason }) => !isReason(reason))).toEqual([]);
});

test("a name of Object.prototype is no reason", () => {
  expect(isReason("constructor")).toBe(false);
});

function sources(): string[] {
  return ["packages", "services"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts") && !name.includes("node_modules"))
      .map((name) => join(root, folder, name)),
  );
}
