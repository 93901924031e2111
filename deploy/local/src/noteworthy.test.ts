import { expect, test } from "vitest";
import { noteworthy } from "./noteworthy.ts";

const line = (fields: object) => JSON.stringify({ time: "2026-01-01T00:00:00Z", name: "x", ...fields });

test("warnings are shown with reason and cause, what is routine is not", () => {
  const warning = line({
    level: "warn",
    msg: "the database is away",
    reason: "DATABASE_UNAVAILABLE",
    err: { message: "refused" },
  });
  expect(noteworthy("vector-registry", warning, false)).toBe(
    "vector-registry warn [DATABASE_UNAVAILABLE] the database is away: refused",
  );
  expect(noteworthy("vector-registry", line({ level: "info", msg: "serving" }), false)).toBeUndefined();
});

test("everything is shown when asked for, with its fields", () => {
  const info = line({ level: "info", msg: "serving", port: 7300 });
  expect(noteworthy("vector-registry", info, true)).toBe('vector-registry info serving {"port":7300}');
});

test("what is no JSON is shown as it is", () => {
  expect(noteworthy("inference-0", "Segmentation fault", false)).toBe("inference-0: Segmentation fault");
});
