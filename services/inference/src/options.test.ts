import { loadConfig } from "@persona-mesh/service";
import { expect, test } from "vitest";
import { checkWorkerConfig, WORKER_OPTIONS, workerNameOf } from "./options.ts";

const { values } = loadConfig(WORKER_OPTIONS);

test.each([
  [{}, undefined],
  [{ personasDir: "personas" }, undefined],
  [{ registryAddress: "registry:7300" }, undefined],
  [{ registryAddress: "registry:7300", environment: "production" as const }, undefined],
  [{ registryAddress: "registry:7300", personasDir: "personas" }, "personasDir"],
  [{ environment: "production" as const }, "registryAddress"],
  [{ environment: "production" as const, personasDir: "personas" }, "registryAddress"],
])("personas come from one place, in production from the registry: %o", (changes, wrong) => {
  const check = () => checkWorkerConfig({ ...values, ...changes });
  if (wrong === undefined) expect(check).not.toThrow();
  else
    expect(check).toThrow(
      expect.objectContaining({
        reason: "CONFIG_INVALID",
        fieldViolations: [{ field: wrong, description: expect.anything() }],
      }),
    );
});

test("a worker's name is the same after every restart, and can be a folder's", () => {
  expect(workerNameOf({ workerName: "blue-1", grpcPort: 7400 })).toBe("blue-1");
  const named = workerNameOf({ workerName: undefined, grpcPort: 7400 });
  expect(named).toMatch(/^worker-[A-Za-z0-9._-]+-7400$/);
  expect(workerNameOf({ workerName: undefined, grpcPort: 7400 })).toBe(named);
});

test.each(["", "..", ".hidden", "a/b", "a b", "ü", "x".repeat(129)])("%j is no worker's name", (name) => {
  expect(() => loadConfig(WORKER_OPTIONS, { args: [`--worker-name=${name}`] })).toThrow(/workerName/);
});
