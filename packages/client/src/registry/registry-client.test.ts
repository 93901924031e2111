import { status } from "@grpc/grpc-js";
import { type CreateTenantRequest, type ListVersionsRequest, TenantService } from "@persona-mesh/protocol/registry";
import {
  type Client,
  ClientError,
  ensureDevKeys,
  type Reason,
  ServiceError,
  signDevToken,
} from "@persona-mesh/service";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type ScriptedRegistry, startScriptedRegistry } from "../testing/scripted-registry.ts";
import { RegistryClient } from "./registry-client.ts";
import { retrying } from "./retry.ts";
import { waitForWorkers } from "./wait-for-workers.ts";

let registry: ScriptedRegistry;
let client: RegistryClient;
/** Reasons that the next calls fail with, in order. */
let failures: Reason[];
let creates: CreateTenantRequest[];
let pages: ListVersionsRequest[];
let endless: boolean;
let looks: number;

beforeAll(async () => {
  const failOrGo = () => {
    const reason = failures.shift();
    if (reason !== undefined) throw new ServiceError(reason, "scripted");
  };
  registry = await startScriptedRegistry(
    {
      tenants: {
        createTenant: async (request) => {
          creates.push(request);
          failOrGo();
          return { tenant: { name: `tenants/${request.tenantId}` } };
        },
        getTenant: async () => {
          looks++;
          failOrGo();
          return { tenant: { name: "tenants/acme" } };
        },
      },
      vectors: {
        listVersions: async (request) => {
          pages.push(request);
          const number = Number(request.pageToken || "0");
          const nextPageToken = endless ? "1" : number < 2 ? String(number + 1) : "";
          return { versions: [{ digest: `${number}a` }, { digest: `${number}b` }], nextPageToken };
        },
      },
      distribution: {
        getDistribution: async ({ revision }) => {
          looks++;
          const has = looks >= 3;
          return {
            revision,
            workers: [
              { worker: "slow", reached: has, connected: true },
              { worker: "away", reached: false, connected: false },
            ],
          };
        },
      },
    },
    { devTls: false },
  );
  const keys = await ensureDevKeys(registry.dataDir);
  const token = await signDevToken(keys, { subject: "alice", tenant: "platform", roles: ["admin"] });
  client = new RegistryClient({ address: registry.address, token });
});

afterAll(async () => {
  client.close();
  await registry[Symbol.asyncDispose]();
});

beforeEach(() => {
  failures = [];
  creates = [];
  pages = [];
  endless = false;
  looks = 0;
});

describe("a mutation", () => {
  it.each<Reason>(["UNAVAILABLE", "CONFLICT", "COMMIT_UNKNOWN"])(
    "is tried again after %s under the same request id",
    async (reason) => {
      failures = [reason];
      const { tenant } = await client.tenants.createTenant({ tenantId: "acme" });
      expect(tenant?.name).toBe("tenants/acme");
      const ids = creates.map(({ requestId }) => requestId);
      expect(ids).toHaveLength(2);
      expect(new Set(ids).size).toBe(1);
      expect(ids[0]).toMatch(/^[0-9a-f-]{36}$/);
    },
  );

  it("has an id of its own for each call, and keeps the caller's", async () => {
    await client.tenants.createTenant({ tenantId: "acme" });
    await client.tenants.createTenant({ tenantId: "acme" });
    await client.tenants.createTenant({ tenantId: "acme", requestId: "mine" });
    const [first, second, third] = creates.map(({ requestId }) => requestId);
    expect(first).not.toBe(second);
    expect(third).toBe("mine");
  });

  it.each<Reason>(["ETAG_MISMATCH", "RESOURCE_EXISTS", "PERMISSION_DENIED"])(
    "fails at once with %s",
    async (reason) => {
      failures = [reason];
      await expect(client.tenants.createTenant({ tenantId: "acme" })).rejects.toMatchObject({ reason });
      expect(creates).toHaveLength(1);
    },
  );

  it("is given up after five tries, within the waits of its own where the server names none", async () => {
    let tries = 0;
    const createTenant = () => {
      tries++;
      return Promise.reject(new ClientError(status.UNAVAILABLE, "UNAVAILABLE", "nobody there"));
    };
    const failing = retrying(TenantService, { createTenant } as unknown as Client<typeof TenantService>);
    await expect(failing.createTenant({ tenantId: "acme" })).rejects.toMatchObject({ reason: "UNAVAILABLE" });
    expect(tries).toBe(5);
  });

  it("is not tried again once it is cancelled", async () => {
    failures = Array(9).fill("CONFLICT");
    const stop = new AbortController();
    const failing = client.tenants.createTenant({ tenantId: "acme" }, { signal: stop.signal });
    while (creates.length === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    stop.abort();
    await expect(failing).rejects.toThrow();
    const tries = creates.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(creates).toHaveLength(tries);
  });
});

it("reads are tried again too", async () => {
  failures = ["DATABASE_UNAVAILABLE"];
  expect((await client.tenants.getTenant({ name: "tenants/acme" })).tenant?.name).toBe("tenants/acme");
  expect(looks).toBe(2);
});

describe("a list", () => {
  it("has all pages, each asked for when it is reached", async () => {
    const versions = client.listVersions({ parent: "tenants/acme/vectors/cheerful" });
    expect([(await versions.next()).value?.digest, (await versions.next()).value?.digest]).toEqual(["0a", "0b"]);
    expect(pages).toHaveLength(1);
    expect((await Array.fromAsync(versions)).map(({ digest }) => digest)).toEqual(["1a", "1b", "2a", "2b"]);
    expect(pages.map(({ pageSize, pageToken, parent }) => [pageSize, pageToken, parent])).toEqual(
      ["", "1", "2"].map((token) => [1000, token, "tenants/acme/vectors/cheerful"]),
    );
  });

  it("ends where a page points at itself", async () => {
    endless = true;
    await expect(Array.fromAsync(client.listVersions({ parent: "p" }))).rejects.toThrow("does not end");
    expect(pages).toHaveLength(2);
  });
});

describe("waiting for workers", () => {
  const change = { parent: "tenants/acme", revision: 7n };

  it("ends when every connected one has the revision, and says who is away", async () => {
    const { reached, behind, away } = await waitForWorkers(client, { ...change, timeoutMs: 10_000 });
    expect([reached, behind, away].map((workers) => workers.map(({ worker }) => worker))).toEqual([
      ["slow"],
      [],
      ["away"],
    ]);
    expect(looks).toBe(3);
  });

  it("ends with the time, and says who is behind", async () => {
    const { behind } = await waitForWorkers(client, { ...change, timeoutMs: 0 });
    expect(behind.map(({ worker }) => worker)).toEqual(["slow"]);
  });
});
