import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { PersonaSelectorSchema } from "@persona-mesh/protocol";
import { type Caller, ServiceError } from "@persona-mesh/service";
import { describe, expect, test } from "vitest";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { DEFAULT_SERVING } from "../personas/serving-policy.ts";
import { RegistryCatalog, type ServedPersona, type ServedTenant } from "../registry/registry-catalog.ts";
import { SteeringTable } from "../table/index.ts";
import { personaOf, rowAlong } from "../testing/personas.ts";
import type { Worker } from "../worker.ts";
import { selectPersona } from "./persona-selection.ts";

const GLAD = "tenants/acme/personas/glad";

/** A revision of acme's persona glad, composed. */
function glad(number: number): LoadedPersona {
  const rows = new Map([[1, rowAlong(2, number)]]);
  return personaOf(`digest-${number}`, rows, { name: GLAD, revisionName: `${GLAD}/revisions/${number}` });
}

function loaded(persona: LoadedPersona): ServedPersona {
  return { kind: "loaded", persona, versionDigests: persona.versionDigests };
}

const KEPT_OUT: ServedPersona = {
  kind: "kept-out",
  problem: { tenant: "acme", resource: GLAD, reason: "MODEL_MISMATCH", message: "of another model" },
  versionDigests: [],
};

function workerWith(changes: Partial<ServedTenant>): Worker {
  const personas = new RegistryCatalog(() => 0);
  personas.set("acme", {
    capHundredths: 50,
    revocation: "REMOVE",
    stalenessLimitMs: 1000,
    serving: DEFAULT_SERVING,
    isDeleted: false,
    active: undefined,
    personas: new Map(),
    ...changes,
  });
  const table = new SteeringTable({ rows: 8, hidden: 2, layers: 2 });
  return { personas, table } as unknown as Worker;
}

function select(worker: Worker, selector: MessageInitShape<typeof PersonaSelectorSchema>, changes?: Partial<Caller>) {
  const caller: Caller = { subject: "tester", tenant: "acme", roles: new Set(["operator"]), ...changes };
  return selectPersona(worker, caller, create(PersonaSelectorSchema, selector));
}

const pin = (worker: Worker, value: string, tenant = "acme") =>
  select(worker, { selector: { case: "revision", value } }, { tenant }).persona;

/** What a call is refused with; an error of the test where it is not. */
function refusal(call: () => unknown): ServiceError {
  try {
    call();
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
  throw new Error("was expected to be refused");
}

describe("a pinned revision", () => {
  const [older, newer] = [glad(1), glad(2)];

  test("is the released one, or the active one where that is older: nothing else", () => {
    const worker = workerWith({ active: loaded(older), personas: new Map([[GLAD, loaded(newer)]]) });
    expect(pin(worker, `${GLAD}/revisions/2`)).toBe(newer);
    expect(pin(worker, `${GLAD}/revisions/1`)).toBe(older);
    expect(refusal(() => pin(worker, `${GLAD}/revisions/3`))).toMatchObject({
      reason: "REVISION_NOT_SERVED",
      metadata: { served: `${GLAD}/revisions/2` },
    });
  });

  test("is served though the one released after it is in trouble", () => {
    const worker = workerWith({ active: loaded(older), personas: new Map([[GLAD, KEPT_OUT]]) });
    expect(pin(worker, `${GLAD}/revisions/1`)).toBe(older);
    expect(refusal(() => pin(worker, `${GLAD}/revisions/2`)).reason).toBe("PERSONA_NOT_SERVABLE");
  });

  test("is served though the active persona is in trouble", () => {
    const worker = workerWith({ active: KEPT_OUT, personas: new Map([[GLAD, loaded(newer)]]) });
    expect(pin(worker, `${GLAD}/revisions/2`)).toBe(newer);
  });

  test("of another persona is not the active one of the same number", () => {
    const sad = "tenants/acme/personas/sad";
    const worker = workerWith({ active: loaded(older), personas: new Map([[GLAD, loaded(older)]]) });
    expect(refusal(() => pin(worker, `${sad}/revisions/1`)).reason).toBe("PERSONA_NOT_FOUND");
  });

  test.each(["", "glad", GLAD.replace("acme", "globex"), `${GLAD}/revisions/1/revisions/1`, "../revisions/1"])(
    "%j is no revision of the caller's",
    (value) => {
      const worker = workerWith({ personas: new Map([[GLAD, loaded(older)]]) });
      expect(refusal(() => pin(worker, value)).reason).toBe("PERSONA_NOT_FOUND");
    },
  );

  test("a persona's name alone is no revision of it", () => {
    const worker = workerWith({ personas: new Map([[GLAD, loaded(older)]]) });
    expect(refusal(() => pin(worker, GLAD)).reason).toBe("REVISION_NOT_SERVED");
  });

  test("is not there for another tenant, as if it did not exist", () => {
    const worker = workerWith({ active: loaded(older), personas: new Map([[GLAD, loaded(older)]]) });
    const foreign = refusal(() => pin(worker, `${GLAD}/revisions/1`, "globex"));
    const unknown = refusal(() => pin(worker, "tenants/acme/personas/none/revisions/1"));
    expect([foreign.reason, foreign.message, foreign.metadata]).toEqual([
      unknown.reason,
      unknown.message,
      unknown.metadata,
    ]);
  });
});

describe("a sweep", () => {
  const sweep = { selector: { case: "inline", value: { sweep: true } } } as const;

  test.each<[string, Partial<Caller>]>([
    ["a tenant's operator", {}],
    ["a tenant's service", { roles: new Set(["service"]) }],
    ["an operator of the platform", { tenant: "platform" }],
    ["an admin of the platform", { tenant: "platform", roles: new Set(["admin"]) }],
  ])("is not for %s", (_, caller) => {
    expect(refusal(() => select(workerWith({}), sweep, caller)).reason).toBe("PERMISSION_DENIED");
  });
});

test.each([-0.001, 1.001, Number.NaN])("gain %d is refused whatever is selected", (gain) => {
  const failure = refusal(() => select(workerWith({}), { selector: { case: "unsteered", value: {} }, gain }));
  expect(failure.fieldViolations).toMatchObject([{ field: "persona.gain" }]);
});
