import { mkdir, mkdtemp, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXTRACTOR_VERSION, encodeVector, VECTOR_FORMAT_VERSION } from "@persona-mesh/steering";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PersonaStore } from "./persona-store.ts";
import { DEFAULT_SERVING } from "./serving-policy.ts";
import type { TenantPersonas } from "./tenant-folder.ts";

const MODEL = { modelChecksum: "a".repeat(64), hidden: 4, layers: 3 };

let root: string;
let store: PersonaStore | undefined;
/** What the store told, in order. */
let told: string[];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "persona-store-"));
  told = [];
});

afterEach(async () => {
  await store?.[Symbol.asyncDispose]();
  store = undefined;
  await rm(root, { recursive: true, force: true });
});

async function open(folder = root): Promise<PersonaStore> {
  store = await PersonaStore.open(folder, MODEL, {
    onLoaded: (tenant, { personas }: TenantPersonas) => told.push(`${tenant} has ${personas.size}`),
    onRefused: (tenant, error) => told.push(`${tenant} refused: ${(error as Error).message}`),
    onUnreadable: () => told.push("unreadable"),
  });
  return store;
}

/** A vector along one axis at layer 1. */
function vectorBytes(axis: number): Uint8Array {
  const direction = new Float32Array(MODEL.hidden);
  direction[axis] = 1;
  const quality = { pairwiseCosine: 1, auc: 1, rightSignShare: 1, splitHalfCosine: 1, normBefore: 1, removedCosine: 0 };
  return encodeVector({
    manifest: {
      formatVersion: VECTOR_FORMAT_VERSION,
      name: "vector",
      modelChecksum: MODEL.modelChecksum,
      graphDigest: "b".repeat(64),
      hiddenSize: MODEL.hidden,
      layerCount: MODEL.layers,
      site: "post_block",
      layers: [1],
      referenceNorms: [2],
      method: "MEAN_DIFF",
      pooling: "response_mean",
      extractorVersion: EXTRACTOR_VERSION,
      pairCount: 1,
      pairsDigest: "c".repeat(64),
      baselineDigest: "d".repeat(64),
      quality: [quality],
    },
    directions: new Map([[1, direction]]),
  });
}

async function write(tenant: string, name: string, content: string | Uint8Array): Promise<void> {
  const path = join(root, tenant, name);
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

const fileOf = (names: readonly string[], alpha = 0.3, active: string | null = null) =>
  JSON.stringify({ active, personas: names.map((name) => ({ name, terms: [{ vector: "v.safetensors", alpha }] })) });

async function tenant(name: string, personas: readonly string[], alpha?: number): Promise<void> {
  await mkdir(join(root, name), { recursive: true });
  await write(name, "v.safetensors", vectorBytes(0));
  await write(name, "personas.json", fileOf(personas, alpha));
}

const ofAcme = (name: string) => store?.find("acme", `tenants/acme/personas/${name}`);

/** Wait for something that the store does by itself. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 20_000; !condition(); ) {
    if (Date.now() > end) throw new Error(`never happened: ${what}; told: ${told.join("; ")}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe("what is there", () => {
  test("is composed for the model and found by its full name, by its own tenant", async () => {
    await tenant("acme", ["loud", "calm"]);
    await tenant("globex", ["loud"]);
    await open();
    expect(told.sort()).toEqual(["acme has 2", "globex has 1"]);
    expect(store?.list("acme").map(({ name }) => name)).toEqual([
      "tenants/acme/personas/calm",
      "tenants/acme/personas/loud",
    ]);
    const loud = ofAcme("loud");
    // 0.3 of a reference norm of 2.
    expect([...(loud?.rows.get(1) ?? [])]).toEqual([Math.fround(0.6), 0, 0, 0]);
    expect(loud?.doses).toEqual([{ layer: 1, dose: expect.closeTo(0.3, 6), referenceNorm: 2 }]);
    for (const name of ["loud", "tenants/globex/personas/loud", "tenants/acme/personas/none", ""]) {
      expect(store?.find("acme", name)).toBeUndefined();
    }
    expect(store?.find("nobody", "tenants/acme/personas/loud")).toBeUndefined();
    expect(store?.list("nobody")).toEqual([]);
    expect(store?.active("acme")).toBeUndefined();
  });

  test("of other kinds is left alone: files, folders that are no tenant's, tenants without a file yet", async () => {
    await writeFile(join(root, "personas.json"), "{");
    for (const folder of ["Upper", "-dash", "with space", "empty"]) await mkdir(join(root, folder));
    await writeFile(join(root, "Upper", "personas.json"), "{");
    await open();
    expect(told).toEqual([]);
  });

  test("may be nothing at all, also not the folder", async () => {
    await open(join(root, "none"));
    expect(told).toEqual([]);
  });
});

describe("revisions", () => {
  test("change with everything that acts, and with nothing else", async () => {
    await tenant("acme", ["loud"]);
    await open();
    const first = ofAcme("loud")?.revision;
    await write("acme", "personas.json", `  ${fileOf(["loud", "other"])}\n`);
    await store?.rescan();
    expect(ofAcme("loud")?.revision).toBe(first);
    expect(ofAcme("other")?.revision).not.toBe(first);
    await write("acme", "personas.json", fileOf(["loud"], 0.31));
    await store?.rescan();
    const louder = ofAcme("loud")?.revision;
    expect(louder).not.toBe(first);
    await write("acme", "personas.json", fileOf(["loud"]));
    await write("acme", "v.safetensors", vectorBytes(2));
    await store?.rescan();
    expect(new Set([first, louder, ofAcme("loud")?.revision]).size).toBe(3);
  });
});

describe("changes", () => {
  test("are taken over by themselves: of the file, of a vector, of a tenant that comes and one that goes", async () => {
    await tenant("acme", ["loud"]);
    await open();
    const first = ofAcme("loud");
    await write("acme", "personas.json", fileOf(["loud", "calm"], 0.3, "calm"));
    await until(() => store?.active("acme")?.name === "tenants/acme/personas/calm", "calm is active");
    await write("acme", "v.safetensors", vectorBytes(3));
    await until(() => ofAcme("loud")?.revision !== first?.revision, "the other vector");
    // Again under the same names: a watch that follows the old files would be blind by now.
    await write("acme", "v.safetensors", vectorBytes(0));
    await until(() => ofAcme("loud")?.revision === first?.revision, "the first vector again");
    await tenant("globex", ["loud"]);
    await until(() => store?.list("globex").length === 1, "globex has come");
    await rm(join(root, "acme"), { recursive: true });
    await until(() => store?.list("acme").length === 0, "acme has gone");
    expect(store?.list("globex")).toHaveLength(1);
  });

  test("in a folder that comes into being only later are taken over too", async () => {
    const later = join(root, "later");
    await open(later);
    await tenant("acme", ["loud"]);
    await mkdir(later);
    await rename(join(root, "acme"), join(later, "acme"));
    await until(() => store?.list("acme").length === 1, "the folder is found");
  });

  test("that are wrong leave the last good set in force, are told once, and right ones come into force after", async () => {
    await tenant("acme", ["loud"]);
    await open();
    told = [];
    await write("acme", "personas.json", fileOf(["loud"], 0.6));
    for (let look = 0; look < 3; look++) await store?.rescan();
    expect(told).toEqual([expect.stringMatching(/^acme refused: .*alpha 0\.60 is over the cap 0\.50/)]);
    expect(ofAcme("loud")?.largestAlphaHundredths).toBe(30);
    await unlink(join(root, "acme", "personas.json"));
    await store?.rescan();
    expect(ofAcme("loud")?.largestAlphaHundredths).toBe(30);
    await write("acme", "personas.json", fileOf(["loud"], 0.4));
    await store?.rescan();
    expect(ofAcme("loud")?.largestAlphaHundredths).toBe(40);
  });

  test("of one tenant that are wrong do not concern another", async () => {
    await tenant("acme", ["loud"]);
    await mkdir(join(root, "broken"));
    await write("broken", "personas.json", "{");
    await open();
    expect(store?.list("acme")).toHaveLength(1);
    expect(store?.list("broken")).toEqual([]);
    expect(told.filter((line) => line.startsWith("broken refused"))).toHaveLength(1);
  });
});

describe("what a tenant may take, and how its replies are guarded", () => {
  const policyFile = (policy: object) => JSON.stringify({ personas: [], ...policy });

  test("are the defaults where its file says nothing, and where there is no tenant", async () => {
    await tenant("acme", ["loud"]);
    await open();
    expect(store?.serving("acme")).toEqual(DEFAULT_SERVING);
    expect(store?.serving("nobody")).toEqual(DEFAULT_SERVING);
  });

  test("are what its file says, field by field, and the defaults again when it is gone", async () => {
    await mkdir(join(root, "acme"));
    const guard = { observeOnly: true, band: 0.2, step: 0.05, repetition: 0.6, cache: "REPREFILL", twinShare: 0 };
    const often = { ...guard, refillTokens: 16 };
    await write(
      "acme",
      "personas.json",
      policyFile({ guard: often, serving: { weight: 300, tokensPerMinute: 60_000 } }),
    );
    await open();
    expect(store?.serving("acme")).toEqual({
      weight: 300,
      maxRunning: Number.POSITIVE_INFINITY,
      maxWaiting: Number.POSITIVE_INFINITY,
      tokensPerMinute: 60_000,
      guard: {
        observeOnly: true,
        windowTokens: 32,
        bandHundredths: 20,
        stepHundredths: 5,
        repetitionHundredths: 60,
        cache: "REPREFILL",
        twinShareBasisPoints: 0,
        refillTokens: 16,
      },
    });
    const next = { twinShare: 0.0125, windowTokens: 256, refillTokens: 0 };
    await write("acme", "personas.json", policyFile({ guard: next }));
    await store?.rescan();
    expect(store?.serving("acme")).toEqual({
      ...DEFAULT_SERVING,
      guard: { ...DEFAULT_SERVING.guard, twinShareBasisPoints: 125, windowTokens: 256 },
    });
    await rm(join(root, "acme"), { recursive: true });
    await store?.rescan();
    expect(store?.serving("acme")).toEqual(DEFAULT_SERVING);
  });

  test("are refused out of bounds, too fine, or unknown", async () => {
    const wrong = [
      { guard: { windowTokens: 7 } },
      { guard: { windowTokens: 257 } },
      { guard: { windowTokens: 8.5 } },
      { guard: { band: 0.04 } },
      { guard: { band: 0.155 } },
      { guard: { step: 0.81 } },
      { guard: { repetition: 1.01 } },
      { guard: { cache: "DROP" } },
      { guard: { twinShare: 0.00005 } },
      { guard: { twinShare: -1 } },
      { guard: { sensitivity: 1 } },
      { guard: { refillTokens: 15 } },
      { guard: { refillTokens: 4097 } },
      { guard: { refillTokens: 16.5 } },
      { guard: { refillTokens: -1 } },
      { serving: { weight: 0 } },
      { serving: { weight: 1001 } },
      { serving: { maxRunning: 0 } },
      { serving: { maxWaiting: 1.5 } },
      { serving: { tokensPerMinute: -1 } },
    ];
    for (const [index, policy] of wrong.entries()) {
      await mkdir(join(root, `wrong-${index}`));
      await write(`wrong-${index}`, "personas.json", policyFile(policy));
    }
    await open();
    const refused = told.filter((line) => line.includes("refused")).map((line) => line.split(" ")[0]);
    expect(refused.sort()).toEqual(wrong.map((_, index) => `wrong-${index}`).sort());
  });
});

describe("what a tenant may not do", () => {
  test("read another tenant's vector through a link", async () => {
    await tenant("globex", ["loud"]);
    await mkdir(join(root, "acme"));
    await symlink(join(root, "globex", "v.safetensors"), join(root, "acme", "v.safetensors"));
    await write("acme", "personas.json", fileOf(["loud"]));
    await open();
    expect(store?.list("acme")).toEqual([]);
    expect(told).toContainEqual(expect.stringMatching(/^acme refused: .*leads out/));
  });

  test("fill the memory with a file", async () => {
    await mkdir(join(root, "acme"));
    await write("acme", "personas.json", " ".repeat(5 << 20));
    await open();
    expect(told).toEqual([expect.stringMatching(/^acme refused: .*the limit is/)]);
  });
});

test("a root that cannot be read takes nobody's personas away, and is told once", async () => {
  await tenant("acme", ["loud"]);
  await open();
  told = [];
  // A file in its place: there, and no folder that could be read.
  const aside = `${root}-aside`;
  await rename(root, aside);
  await writeFile(root, "");
  try {
    for (let look = 0; look < 3; look++) await store?.rescan();
    expect(told).toEqual(["unreadable"]);
    expect(store?.list("acme")).toHaveLength(1);
  } finally {
    await unlink(root);
    await rename(aside, root);
  }
  await write("acme", "personas.json", fileOf(["loud", "calm"]));
  await store?.rescan();
  expect(store?.list("acme")).toHaveLength(2);
});
