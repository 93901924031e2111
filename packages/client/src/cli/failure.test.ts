import { PassThrough } from "node:stream";
import { status } from "@grpc/grpc-js";
import { CheckpointError, ModelPackageError } from "@persona-mesh/model";
import { ClientError, ServiceError } from "@persona-mesh/service";
import { SteeringError } from "@persona-mesh/steering";
import { CommanderError } from "commander";
import { describe, expect, it } from "vitest";
import { LocalError } from "../local-error.ts";
import { failureOf, UsageError } from "./failure.ts";
import { type CliIo, InterruptedError } from "./io.ts";
import { failureJson, reportFailure } from "./report.ts";

const clientError = (code: status) => new ClientError(code, "INTERNAL", "m");

describe("exit codes", () => {
  it.each([
    [2, new UsageError("PROMPT_MISSING", "m")],
    [2, new CommanderError(1, "commander.unknownOption", "error: unknown option '--x'")],
    [3, clientError(status.UNAUTHENTICATED)],
    [3, clientError(status.PERMISSION_DENIED)],
    [3, new LocalError("TOKEN_MISSING", "m")],
    [4, clientError(status.NOT_FOUND)],
    [4, new LocalError("FILE_NOT_FOUND", "m")],
    [4, new CheckpointError("CHECKPOINT_NOT_FOUND", "m")],
    [4, new ModelPackageError("MODEL_PACKAGE_NOT_FOUND", "m")],
    [5, clientError(status.INVALID_ARGUMENT)],
    [5, clientError(status.FAILED_PRECONDITION)],
    [5, new CheckpointError("CHECKPOINT_CORRUPT", "m")],
    [5, new ModelPackageError("MODEL_PACKAGE_EXISTS", "m")],
    [5, new SteeringError("NO_SEPARATION", "m")],
    [5, new LocalError("FILE_EXISTS", "m")],
    [6, clientError(status.UNAVAILABLE)],
    [6, clientError(status.DEADLINE_EXCEEDED)],
    [6, clientError(status.RESOURCE_EXHAUSTED)],
    [1, clientError(status.INTERNAL)],
    [1, new LocalError("RESPONSE_INVALID", "m")],
    [1, new Error("a bug")],
    [1, "not even an error"],
    [130, new InterruptedError("SIGINT")],
    [143, new InterruptedError("SIGTERM")],
    [141, new InterruptedError("SIGPIPE")],
    [5, new ServiceError("CONFIG_INVALID", "m")],
  ])("are %i for %s", (exitCode, error) => {
    expect(failureOf(error).exitCode).toBe(exitCode);
  });
});

describe("failures", () => {
  it("keep the reason of the package that refused", () => {
    expect(failureOf(new CheckpointError("CHECKPOINT_UNSUPPORTED", "qwen"))).toMatchObject({
      code: "INVALID_ARGUMENT",
      reason: "CHECKPOINT_UNSUPPORTED",
      message: "qwen",
    });
  });

  it("turn a parser's code into a reason, and join its suggestion to the message", () => {
    const message = "error: unknown option '--sed'\n(Did you mean --seed?)";
    expect(failureOf(new CommanderError(1, "commander.unknownOption", message))).toMatchObject({
      code: "USAGE",
      reason: "UNKNOWN_OPTION",
      message: "unknown option '--sed' (Did you mean --seed?)",
    });
  });

  it("name the file that the system does not find", () => {
    const error = Object.assign(new Error("ENOENT: no such file or directory, open 'ca.pem'"), {
      code: "ENOENT",
      syscall: "open",
      path: "ca.pem",
    });
    expect(failureOf(error)).toMatchObject({ reason: "FILE_NOT_FOUND", message: "no such file: ca.pem", exitCode: 4 });
  });
});

describe("reportFailure", () => {
  const printed = (error: unknown, json: boolean): string => {
    const stderr = new PassThrough();
    reportFailure(failureOf(error), { stderr, env: {} } as unknown as CliIo, { json, color: true });
    return String(stderr.read());
  };
  const error = new ClientError(status.INVALID_ARGUMENT, "ALPHA_OVER_CAP", "alpha 0.65\nis over \u001b[2Jthe cap", {
    fieldViolations: [{ field: "persona.inline.terms[1]", description: "at most 0.5" }],
    metadata: { cap: "0.5" },
    retryDelayMs: 1500,
    requestId: "r-1",
  });

  it("prints one line, one more for every wrong field, and nothing that a terminal would act on", () => {
    expect(printed(error, false)).toBe(
      [
        "INVALID_ARGUMENT [ALPHA_OVER_CAP] alpha 0.65 is over ␛[2Jthe cap",
        "  persona.inline.terms[1]: at most 0.5",
        "  retry after 1.5 s",
        "  request id r-1",
        "",
      ].join("\n"),
    );
  });

  it("prints one JSON object with everything that there is to know", () => {
    expect(JSON.parse(printed(error, true))).toEqual({
      error: {
        code: "INVALID_ARGUMENT",
        reason: "ALPHA_OVER_CAP",
        message: "alpha 0.65\nis over \u001b[2Jthe cap",
        fieldViolations: [{ field: "persona.inline.terms[1]", description: "at most 0.5" }],
        metadata: { cap: "0.5" },
        retryDelayMillis: 1500,
        requestId: "r-1",
        exitCode: 5,
      },
    });
  });

  it("leaves out what does not apply", () => {
    expect(Object.keys(failureJson(failureOf(new LocalError("FILE_EXISTS", "m"))))).toEqual([
      "code",
      "reason",
      "message",
      "exitCode",
    ]);
  });
});
