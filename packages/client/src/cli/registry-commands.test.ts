import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { VersionState } from "@persona-mesh/protocol/registry";
import { type Caller, ensureDevAuthority } from "@persona-mesh/service";
import { PRODUCERS } from "@persona-mesh/steering";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { persona } from "../testing/run-persona.ts";
import { type ScriptedRegistry, startScriptedRegistry } from "../testing/scripted-registry.ts";
import { PRODUCER_NAMES } from "./commands/registry/vector-files.ts";

const DIGEST = "3f2a9c01".padEnd(64, "0");
const VERSION = `tenants/acme/vectors/cheerful/versions/${DIGEST}`;

let registry: ScriptedRegistry;
let folder: string;
let callers: Caller[];
let revoked: { name: string; reason: string; force: boolean; validateOnly: boolean }[];

beforeAll(async () => {
  registry = await startScriptedRegistry({
    tenants: {
      getTenant: async ({ name }, { caller }) => {
        callers.push(caller);
        return { tenant: { name, displayName: "\u001b[2J" } };
      },
      createTenant: async ({ tenantId }, { caller }) => {
        callers.push(caller);
        return { tenant: { name: `tenants/${tenantId}` } };
      },
    },
    vectors: {
      revokeVersion: async ({ name, reason, force, validateOnly }, { caller }) => {
        callers.push(caller);
        revoked.push({ name, reason, force, validateOnly });
        return { version: { name, state: VersionState.REVOKED, sizeBytes: 5n }, revision: 9n, referrers: [] };
      },
      listVersions: async () => ({ versions: [] }),
    },
    distribution: {
      getDistribution: async ({ revision }) => ({
        revision,
        workers: [{ worker: "w1", reached: true, connected: true }],
      }),
    },
  });
  folder = await mkdtemp(join(tmpdir(), "persona-registry-"));
});

afterAll(async () => {
  await registry[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

beforeEach(() => {
  callers = [];
  revoked = [];
});

const run = (argv: string[], options: Parameters<typeof persona>[1] = {}) =>
  persona([...argv, "--registry", registry.address, "--data-dir", registry.dataDir], { cwd: folder, ...options });

describe("development tokens", () => {
  it("have the role that the command needs, for the tenant it is about", async () => {
    await run(["tenant", "show", "globex"]);
    await run(["tenant", "create", "initech"]);
    await run(["version", "revoke", VERSION, "--reason", "bad", "--yes", "--as", "bob", "--role", "admin,viewer"]);
    expect(callers.map(({ subject, tenant, roles }) => [subject, tenant, [...roles].sort()])).toEqual([
      [expect.stringMatching(/^dev:/), "globex", ["viewer"]],
      [expect.stringMatching(/^dev:/), "platform", ["admin"]],
      ["bob", "acme", ["admin", "viewer"]],
    ]);
  });

  it("and their owner are told", async () => {
    const { stderr } = await run(["tenant", "show", "--as", "bob"]);
    expect(stderr).toBe("using a development token: tenant acme, role viewer, as bob\n");
  });
});

describe("TLS", () => {
  it("is found in the data folder, and can be left out", async () => {
    expect((await run(["tenant", "show"])).code).toBe(0);
    const plain = await run(["tenant", "show", "--plaintext", "--timeout", "2s"]);
    expect(plain.code).toBe(6);
    const both = await run(["tenant", "show", "--plaintext", "--tls"]);
    expect([both.code, both.stderr]).toEqual([2, expect.stringContaining("OPTIONS_CONFLICT")]);
  });

  it("trusts no other authority", async () => {
    const other = join(folder, "other");
    const trusted = await ensureDevAuthority(other);
    const { code, stderr } = await run(["tenant", "show", "--tls-ca", trusted, "--timeout", "2s"]);
    expect([code, stderr]).toEqual([6, expect.stringMatching(/UNAVAILABLE|DEADLINE_EXCEEDED/)]);
    expect(callers).toEqual([]);
  });
});

describe("what cannot be undone", () => {
  const revoke = ["version", "revoke", VERSION, "--reason", "bad"];

  it("needs --yes where nobody can be asked", async () => {
    for (const more of [[], ["--json"]]) {
      const { code, stderr } = await run([...revoke, ...more]);
      expect([code, stderr]).toEqual([2, expect.stringContaining("CONFIRMATION_NEEDED")]);
    }
    expect(revoked).toEqual([]);
  });

  it("is asked on a terminal, and takes only a yes", async () => {
    const no = await run(revoke, { columns: 80, stdin: "n\n" });
    expect([no.code, no.stdout, revoked]).toEqual([0, "", []]);
    const yes = await run(revoke, { columns: 80, stdin: "y\n" });
    expect([yes.code, revoked.length]).toEqual([0, 1]);
  });

  it("is not asked for a dry run, which waits for nobody", async () => {
    const { code, stdout, stderr } = await run([...revoke, "--dry-run", "--force"]);
    expect([code, stdout]).toEqual([0, `would revoke ${VERSION}\n`]);
    expect(stderr).toContain("nothing was changed");
    expect(revoked).toEqual([{ name: VERSION, reason: "bad", force: true, validateOnly: true }]);
  });

  it("waits for the workers by itself, and says so in JSON with 64-bit numbers as text", async () => {
    const { stdout } = await run([...revoke, "--yes", "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({
      version: { name: VERSION, state: "VERSION_STATE_REVOKED", sizeBytes: "5", layers: [] },
      revision: "9",
      referrers: [],
      workers: { reached: ["w1"], behind: [], away: [] },
    });
  });
});

describe("output", () => {
  it("never lets a name act on the terminal", async () => {
    const { stdout } = await run(["tenant", "show"], { columns: 80 });
    expect(stdout).toContain("␛[2J");
    expect(stdout).not.toContain("\u001b");
  });

  it("of an empty list is empty, and an object with --json", async () => {
    expect(await run(["version", "list", "cheerful"])).toMatchObject({ code: 0, stdout: "" });
    expect((await run(["version", "list", "cheerful", "--json"])).stdout).toBe('{"versions":[]}\n');
  });
});

it.each([
  [["version", "show", "cheerful"], "NAME_INVALID"],
  [["version", "revoke", VERSION, "--yes"], "OPTIONS_CONFLICT"],
  [["tenant", "update", "acme"], "OPTIONS_CONFLICT"],
  [["tenant", "update", "acme", "--max-vectors", "5", "--context", "internal"], "OPTIONS_CONFLICT"],
  [["tenant", "update", "acme", "--weight", "5", "--guard-observe-only"], "OPTIONS_CONFLICT"],
  [["tenant", "create", "Acme"], "NAME_INVALID"],
  [["persona", "create", "x"], "OPTIONS_CONFLICT"],
  [["version", "evaluate", VERSION, "--alpha-min", "0"], "OPTIONS_CONFLICT"],
  [["vector", "export", VERSION, "--format", "gguf", "--out", "x"], "OPTIONS_CONFLICT"],
  [["approval", "break-glass", "review", "u1", "--note", "n"], "OPTIONS_CONFLICT"],
])("%j is refused before anything is sent", async (argv, reason) => {
  const { code, stderr } = await run(argv);
  expect([code, stderr]).toEqual([2, expect.stringContaining(`[${reason}]`)]);
  expect(callers).toEqual([]);
});

it("an export of the audit that is none ends with 5", async () => {
  await writeFile(join(folder, "noise.jsonl"), randomBytes(100));
  const { code, stderr } = await persona(["audit", "verify", "noise.jsonl"], { cwd: folder });
  expect([code, stderr]).toEqual([5, expect.stringMatching(/FILE_INVALID|AUDIT_BROKEN/)]);
  expect((await persona(["audit", "verify", "nowhere.jsonl"], { cwd: folder })).code).toBe(4);
});

it("offers the producers that there are", () => {
  expect(PRODUCER_NAMES).toEqual(PRODUCERS);
});
