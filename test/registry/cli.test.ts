import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readManifest } from "@persona-mesh/model";
import { DistributionService, WorkerState } from "@persona-mesh/protocol/registry";
import { encodeVector, type ImportedManifest, versionDigest, writeGguf } from "@persona-mesh/steering";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { persona } from "../../packages/client/src/testing/run-persona.ts";
import { openTestRegistry, type TestRegistry } from "../../services/vector-registry/src/testing/test-registry.ts";
import { starterPackage } from "../support/starter-package.ts";

/** The way of docs/registry.md, from an empty registry to a verified audit, by the command line alone. */

let registry: TestRegistry;
let folder: string;
let modelChecksum: string;
/** Digests of two versions of "cheerful", as files first.safetensors and second.safetensors. */
const digests: string[] = [];

beforeAll(async () => {
  registry = await openTestRegistry();
  folder = await mkdtemp(join(tmpdir(), "persona-registry-cli-"));
  await starterPackage(join(folder, "starter"));
  const { spec, modelChecksum: checksum } = await readManifest(join(folder, "starter"));
  modelChecksum = checksum;
  for (const [seed, name] of ["first", "second"].entries()) {
    const bytes = vectorFile(seed, spec.hidden, spec.layers);
    digests.push(versionDigest(bytes));
    await writeFile(join(folder, `${name}.safetensors`), bytes);
  }
  await writeFile(join(folder, "norms.json"), JSON.stringify(Array(spec.layers).fill(2)));
  const foreign = { manifest: manifestOf(spec.hidden, spec.layers), directions: directionsOf(7, spec.hidden) };
  await writeFile(join(folder, "foreign.gguf"), writeGguf(foreign, { producer: "repeng", modelHint: "llama" }));
});

afterAll(async () => {
  await registry.close();
  await rm(folder, { recursive: true, force: true });
});

const LAYERS = [2, 3];

function manifestOf(hiddenSize: number, layerCount: number): ImportedManifest {
  return {
    formatVersion: 2,
    name: "cheerful",
    modelChecksum,
    hiddenSize,
    layerCount,
    site: "post_block",
    layers: LAYERS,
    referenceNorms: [2, 2],
    origin: { kind: "imported", format: "gguf", producer: "repeng", fileDigest: "b".repeat(64), norms: [1, 1] },
  };
}

function directionsOf(seed: number, hiddenSize: number) {
  const unit = Float32Array.from({ length: hiddenSize }, (_, i) => (i === seed ? 1 : 0));
  return new Map(LAYERS.map((layer) => [layer, unit]));
}

function vectorFile(seed: number, hiddenSize: number, layerCount: number): Uint8Array {
  return encodeVector({ manifest: manifestOf(hiddenSize, layerCount), directions: directionsOf(seed, hiddenSize) });
}

/** The command line of somebody on the registry's machine. */
function run(line: string, { env = {} }: { env?: Record<string, string> } = {}) {
  const words = line.match(/'[^']*'|\S+/g) ?? [];
  const argv = words.map((word) => word.replace(/^'|'$/g, ""));
  return persona([...argv, "--registry", registry.address, "--data-dir", registry.dataDir], { cwd: folder, env });
}

async function done(line: string): Promise<string> {
  const { code, stdout, stderr } = await run(line);
  expect({ line, code, stderr }).toMatchObject({ code: 0 });
  return stdout;
}

async function json(line: string) {
  return JSON.parse(await done(`${line} --json`));
}

/** How a command was refused. */
async function refused(line: string): Promise<{ code: number; reason: string }> {
  const { code, stderr } = await run(`${line} --json`);
  return { code, reason: JSON.parse(stderr).error.reason };
}

const at = (index: number) => `cheerful@${digests[index]?.slice(0, 12)}`;

describe("from nothing to production, and back", () => {
  test("the platform makes the tenant and registers the model", async () => {
    expect(await done("tenant create acme --dry-run")).toBe("created tenants/acme\n");
    expect(await refused("tenant show acme")).toEqual({ code: 4, reason: "RESOURCE_NOT_FOUND" });
    await done("tenant create acme --display-name 'Acme Inc'");
    await done("model register starter --package ./starter --norms norms.json");
    const { models } = await json("model registered");
    expect(models).toMatchObject([{ name: "models/starter", modelChecksum, layers: 6, hiddenSize: 192 }]);
    const { tenants } = await json("tenant list");
    expect(tenants.map(({ name }: { name: string }) => name)).toEqual(["tenants/acme"]);
  });

  test("policy is for an approver to change, with an etag that must be current", async () => {
    const { tenant } = await json("tenant show acme");
    const update = "tenant update acme --approval-lifetime 90d --reason 'quarterly'";
    expect(await refused(`${update} --role admin`)).toEqual({ code: 3, reason: "PERMISSION_DENIED" });
    const changed = await json(`${update} --etag ${tenant.etag}`);
    expect(changed.tenant.policy.approvalLifetime).toBe("7776000s");
    expect(await refused(`${update} --etag ${tenant.etag}`)).toEqual({ code: 6, reason: "ETAG_MISMATCH" });
    expect(await done("tenant show acme")).toMatch(/^approval lifetime +90 d$/m);
  });

  test("a version is published, and published again is the same", async () => {
    await done("vector create cheerful --description 'warm, never silly'");
    const publish = "version publish first.safetensors --vector cheerful --alpha-min 0 --alpha-max 0.4";
    const { version } = await json(`${publish} --figure coherence=0.93`);
    expect(version).toMatchObject({ digest: digests[0], evaluation: { figures: { coherence: 0.93 } } });
    expect((await json(publish)).version.name).toBe(version.name);
    await done("version publish second.safetensors --vector cheerful --alpha-min 0 --alpha-max 0.4");
    const { versions } = await json("version list cheerful --model starter");
    expect(versions.map(({ digest }: { digest: string }) => digest)).toEqual([digests[1], digests[0]]);
    const shown = await done(`version show ${at(0)}`);
    expect(shown).toMatch(/^alphas +0\.00 to 0\.40$/m);
    expect(shown).toMatch(/^approval +PENDING 0\/1$/m);
    expect(await refused("version show cheerful@00000000")).toEqual({ code: 4, reason: "VERSION_NOT_FOUND" });
  });

  test("production takes it only after a second person's approval", async () => {
    const set = `alias set cheerful@production ${at(0)}`;
    expect(await refused(set)).toEqual({ code: 5, reason: "NOT_APPROVED" });
    expect(await refused(`approval approve ${at(0)}`)).toMatchObject({ reason: "SELF_APPROVAL" });
    await done(`approval approve ${at(0)} --as bob --reason 'figures read'`);
    expect(await done(set)).toBe(`cheerful@production points at ${at(0)}\n`);
    const { approvals } = await json(`approval list ${at(0)}`);
    expect(approvals).toMatchObject([{ approver: "bob", decision: "APPROVAL_DECISION_APPROVE" }]);
  });

  test("a persona of it becomes active, and a worker is waited for", async () => {
    const made = await done("persona create cheerful --term cheerful@production=0.35@2-3");
    expect(made).toMatch(/^outcome +ACCEPTED$/m);
    expect(made).not.toContain("not ready");
    await using worker = await connectedWorker();
    const activate = await run("persona activate cheerful --tenant acme --wait 300ms --json");
    // The change is made, and told before the failure.
    expect(JSON.parse(activate.stdout).workers).toEqual({ reached: [], behind: ["worker-1"], away: [] });
    expect([activate.code, JSON.parse(activate.stderr).error.reason]).toEqual([6, "WORKERS_BEHIND"]);
    await worker.report(BigInt(JSON.parse(activate.stdout).revision));
    const again = await json("persona activate cheerful --wait");
    await worker.report(BigInt(again.revision));
    expect(await done("distribution show")).toMatch(/^worker-1 .* READY .* yes +yes /m);
    expect((await json("tenant show acme")).tenant.activePersona.revision).toBe(
      "tenants/acme/personas/cheerful/revisions/1",
    );
    expect(await done("persona list")).toMatch(/^cheerful +cheerful@1 +cheerful@1 +cheerful@1 +ACTIVE/m);
  });

  test("the alias goes on to another version and the persona follows; rollback takes both back", async () => {
    await done(`approval approve ${at(1)} --as bob`);
    const moved = await json(`alias set cheerful@production ${at(1)} --reason 'better pairs'`);
    expect(moved.personaRevisions).toEqual(["tenants/acme/personas/cheerful/revisions/2"]);
    expect(await done(`version diff ${at(0)} ${at(1)}`)).toMatch(/^ +2 +0\.0000 /m);
    expect(await done("persona diff cheerful@1 cheerful@2")).toContain(digests[1]);
    expect(await done("alias rollback cheerful@production --reason complaints")).toContain(`points at ${at(0)}`);
    const { targets } = await json("alias history cheerful@production");
    expect(targets.map(({ version }: { version: string }) => version.split("/").at(-1))).toEqual([
      digests[0],
      digests[1],
      digests[0],
    ]);
    await done("alias set cheerful@canary cheerful@production");
    expect((await json("alias list cheerful")).aliases).toHaveLength(2);
    await done("alias delete cheerful@canary");
  });

  test("revoking asks, refuses while it is used, and takes the version out of service", async () => {
    const revoke = `version revoke ${at(0)} --reason 'insults customers'`;
    expect(await refused(revoke)).toEqual({ code: 2, reason: "CONFIRMATION_NEEDED" });
    expect(await refused(`${revoke} --yes`)).toEqual({ code: 5, reason: "RESOURCE_REFERENCED" });
    const revoked = await json(`${revoke} --yes --force`);
    expect(revoked.version.state).toBe("VERSION_STATE_REVOKED");
    expect(revoked.referrers).toContain("tenants/acme/vectors/cheerful/aliases/production");
    expect(await refused(`alias set cheerful@production ${at(0)}`)).toMatchObject({ reason: "VERSION_REVOKED" });
  });

  test("break-glass goes past approval, and is judged by somebody else", async () => {
    await done("vector create foreign");
    const imported = await json("vector import foreign.gguf --vector foreign --producer repeng --model starter");
    const version = `foreign@${imported.version.digest.slice(0, 8)}`;
    await done(`alias set foreign@production ${version} --break-glass 'outage'`);
    const { uses } = await json("approval break-glass list --unreviewed");
    expect(uses).toMatchObject([{ action: "SetAlias", justification: "outage" }]);
    const use = uses[0].name.split("/").at(-1);
    expect(await refused(`approval break-glass review ${use} --accept --note seen`)).toMatchObject({
      reason: "SELF_REVIEW",
    });
    await done(`approval break-glass review ${use} --accept --note seen --as bob`);
    expect((await json("approval break-glass list --unreviewed")).uses).toEqual([]);
  });

  test("vectors leave as GGUF and in their own bytes", async () => {
    await done("vector export foreign@production --format gguf --producer repeng --model-hint llama --out out.gguf");
    await done("vector create back");
    const back = await json("vector import out.gguf --vector back --producer repeng --model starter");
    expect(back.version.layers).toEqual(LAYERS);
    await done(`version content ${at(1)} --out copy.safetensors`);
    expect(versionDigest(await readFile(join(folder, "copy.safetensors")))).toBe(digests[1]);
  });

  test("the audit has it all, verifies offline, and a changed entry is named", async () => {
    const { entries } = await json("audit list --action RevokeVersion");
    expect(JSON.parse(entries[0].payload)).toMatchObject({ action: "RevokeVersion", reason: "insults customers" });
    expect(await done("audit list --chain reads")).toContain("cheerful@");
    await done("audit export --out acme.jsonl");
    const roots = join(registry.dataDir, "audit-roots.jsonl");
    const report = await json(`audit verify acme.jsonl --tenant acme --roots ${roots}`);
    expect(report).toMatchObject({ ok: true, tenant: "acme", firstBad: null });
    expect(Number(report.chains.CHANGES.proven)).toBeGreaterThan(10);

    const text = await readFile(join(folder, "acme.jsonl"), "utf8");
    await writeFile(join(folder, "forged.jsonl"), text.replace("insults customers", "no reason at all!"));
    const { code, stdout, stderr } = await run("audit verify forged.jsonl --json");
    const { firstBad } = JSON.parse(stdout);
    expect(firstBad).toMatchObject({ chain: "CHANGES", reason: "ENTRY_CHANGED" });
    expect([code, JSON.parse(stderr).error.reason]).toEqual([5, "AUDIT_BROKEN"]);
    expect(stderr).toContain(`first bad entry CHANGES ${firstBad.sequence}`);
    expect(firstBad.sequence).toBe(entries[0].sequence);
  });

  test("nobody else's things are there", async () => {
    await done("tenant create globex");
    const token = await registry.token({ tenant: "globex", roles: ["viewer"] });
    const foreign = await run(`vector show tenants/acme/vectors/cheerful --json --token ${token}`);
    const unknown = await run(`vector show tenants/acme/vectors/unknown --json --token ${token}`);
    for (const { code, stderr } of [foreign, unknown]) {
      expect([code, JSON.parse(stderr).error.reason]).toEqual([4, "RESOURCE_NOT_FOUND"]);
    }
  });
});

/** A worker as the registry sees one: it watches, and reports when the test says so. */
async function connectedWorker() {
  const client = await registry.service(DistributionService, "inference");
  const stop = new AbortController();
  const watched = (async () => {
    for await (const _ of client.watch({ modelChecksum, worker: "worker-1" }, { signal: stop.signal }));
  })().catch(() => {});
  const report = async (appliedRevision: bigint) => {
    const state = WorkerState.READY;
    await client.reportWorker({ worker: "worker-1", modelChecksum, state, appliedRevision, problems: [] });
  };
  await report(0n);
  for (const end = Date.now() + 5_000; ; ) {
    const { workers } = await json("distribution show");
    if (workers[0]?.connected) break;
    if (Date.now() > end) throw new Error("the worker never connected");
  }
  return {
    report,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watched;
    },
  };
}
