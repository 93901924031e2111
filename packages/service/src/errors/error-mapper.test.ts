import { expect, test } from "vitest";
import { mapByReason, toServiceError } from "./error-mapper.ts";
import { ServiceError } from "./service-error.ts";

type Reasons = "ALPHA_OVER_CAP" | "VECTOR_NOT_UNIT" | "SCORE_BROKEN";

class MathsError extends Error {
  readonly reason: Reasons;
  readonly details: Readonly<Record<string, string | number>>;
  constructor(reason: Reasons, message: string, details: Readonly<Record<string, string | number>> = {}) {
    super(message);
    this.reason = reason;
    this.details = details;
  }
}

const mapper = mapByReason(MathsError, { VECTOR_NOT_UNIT: "VECTOR_FORMAT", SCORE_BROKEN: "INTERNAL" });

test("a reason of the table stays, with its numbers as metadata", () => {
  const mapped = toServiceError(new MathsError("ALPHA_OVER_CAP", "alpha 0.65 is over 0.5", { alpha: 0.65 }), [mapper]);
  expect(mapped).toMatchObject({
    reason: "ALPHA_OVER_CAP",
    message: "alpha 0.65 is over 0.5",
    metadata: { alpha: "0.65" },
  });
});

test("a translated reason keeps its own name as a detail", () => {
  const mapped = toServiceError(new MathsError("VECTOR_NOT_UNIT", "length 3", { norm: 3 }), [mapper]);
  expect(mapped).toMatchObject({ reason: "VECTOR_FORMAT", metadata: { norm: "3", detail: "VECTOR_NOT_UNIT" } });
});

test("what is translated to INTERNAL, and what nobody maps, tells the caller nothing of its cause", () => {
  for (const error of [
    new MathsError("SCORE_BROKEN", "row 7 of the secret"),
    new TypeError("x is undefined"),
    "text",
    undefined,
  ]) {
    const mapped = toServiceError(error, [mapper]);
    expect(mapped.reason).toBe("INTERNAL");
    expect(mapped.message).not.toMatch(/secret|undefined|text/);
    expect(mapped.cause).toBe(error);
  }
});

test("a service error passes as it is", () => {
  const error = new ServiceError("QUEUE_FULL", "full");
  expect(toServiceError(error, [mapper])).toBe(error);
});

test("every reason that is not in the table must be translated", () => {
  // @ts-expect-error VECTOR_NOT_UNIT has no translation
  mapByReason(MathsError, { SCORE_BROKEN: "INTERNAL" });
  // @ts-expect-error NO_SUCH_REASON is not in the table
  mapByReason(MathsError, { SCORE_BROKEN: "INTERNAL", VECTOR_NOT_UNIT: "NO_SUCH_REASON" });
});
