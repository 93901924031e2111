import { ModelPackageError, TokenizerError } from "@persona-mesh/model";
import { reasonEntry, toServiceError } from "@persona-mesh/service";
import { SteeringError } from "@persona-mesh/steering";
import { expect, test } from "vitest";
import { ERROR_MAPPERS } from "./error-mapping.ts";

const map = (error: unknown) => toServiceError(error, ERROR_MAPPERS);

test.each([
  [
    new SteeringError("ALPHA_OVER_CAP", "too much", { alpha: 65, cap: 50 }),
    "ALPHA_OVER_CAP",
    { alpha: "65", cap: "50" },
  ],
  [
    new SteeringError("VECTOR_NOT_UNIT", "too long", { layer: 2 }),
    "VECTOR_FORMAT",
    { layer: "2", detail: "VECTOR_NOT_UNIT" },
  ],
  [new SteeringError("CAP_RAISED", "too high"), "ALPHA_OVER_CAP", { detail: "CAP_RAISED" }],
  [new TokenizerError("TEXT_TOO_LONG", "too long"), "PROMPT_TOO_LONG", { detail: "TEXT_TOO_LONG" }],
  [new TokenizerError("CHAT_TEMPLATE_FAILED", "no such role"), "INVALID_ARGUMENT", { detail: "CHAT_TEMPLATE_FAILED" }],
  [new ModelPackageError("MODEL_PACKAGE_CORRUPT", "weights.bin"), "MODEL_PACKAGE_CORRUPT", {}],
  [new ModelPackageError("MODEL_PACKAGE_NOT_FOUND", "none"), "CONFIG_INVALID", { detail: "MODEL_PACKAGE_NOT_FOUND" }],
])("%s is told as %s", (error, reason, metadata) => {
  expect(map(error)).toMatchObject({ reason, metadata, message: error.message, cause: error });
});

test.each([
  new SteeringError("REPLY_EMPTY", "with secrets"),
  new TokenizerError("TOKENIZER_INVALID", "with secrets"),
  new Error("with secrets"),
])("a defect (%s) is told as one, and its words are kept for the log", (error) => {
  const told = map(error);
  expect(told).toMatchObject({ reason: "INTERNAL", cause: error });
  expect(told.message).not.toContain("secrets");
});

test("a package that cannot be served ends the start with an exit code of its own", () => {
  const codes = (["MODEL_PACKAGE_CORRUPT", "MODEL_PACKAGE_NOT_FOUND"] as const).map(
    (reason) => reasonEntry(map(new ModelPackageError(reason, "x")).reason).exitCode,
  );
  expect(codes).toEqual([4, 2]);
});
