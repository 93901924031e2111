import { encodeExportLine, verifyExport } from "@persona-mesh/audit";
import { LocalMesh } from "@persona-mesh/local";
import { AuditService, ModelService, TenantService, VectorService } from "@persona-mesh/protocol/registry";
import type { Client } from "@persona-mesh/service";
import { context, type Figure } from "../figure.ts";
import { Callers } from "../mesh/callers.ts";
import { Latencies } from "../mesh/latencies.ts";
import { randomVersion, type VersionShape } from "../mesh/random-version.ts";
import type { Bench, BenchContext } from "./bench.ts";

const CLIENTS = [1, 8, 64] as const;
const TENANTS = 8;
const VECTORS = 10_000;
const PAGE = 1000;
/** Vectors made at once, to have them at all. */
const MAKERS = 32;

/** As large as a vector of a model of eight billion parameters at one layer. */
const SHAPE: VersionShape = {
  modelChecksum: "c".repeat(64),
  graphDigest: "d".repeat(64),
  hiddenSize: 4096,
  layerCount: 32,
  layers: [16],
};

export const registryBench: Bench = {
  name: "registry",
  description: "reads and writes per second by number of clients, paging, verification of the audit",
  options: { seconds: { description: "of each measurement", default: "5" } },
  run: measure,
};

type Vectors = Client<typeof VectorService>;

async function measure({ directory, onProgress, options }: BenchContext): Promise<Figure[]> {
  const milliseconds = 1000 * Number(options["seconds"]);
  await using resources = new AsyncDisposableStack();
  onProgress("starting a registry");
  const mesh = resources.use(await LocalMesh.start({ dataDir: directory, workers: 0 }));
  const callers = resources.use(await Callers.open(directory));
  const { address } = mesh.registry;
  const names = await prepare(callers, address);

  const figures: Figure[] = [];
  for (const count of CLIENTS) {
    const clients = await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const tenant = `tenant-${index % TENANTS}`;
        return { tenant, index, vectors: await callers.registry(VectorService, address, { tenant }) };
      }),
    );
    const kinds: Readonly<Record<string, (client: (typeof clients)[number]) => Promise<unknown>>> = {
      "reads of a version": ({ vectors, tenant }) => vectors.getVersion({ name: names.get(tenant) ?? "" }),
      "reads of its bytes, audited": ({ vectors, tenant }) =>
        vectors.getVersionContent({ name: names.get(tenant) ?? "" }),
      "writes of an alias": ({ vectors, tenant, index }) =>
        vectors.setAlias({
          alias: { name: `tenants/${tenant}/vectors/bench/aliases/client-${index}`, version: names.get(tenant) ?? "" },
        }),
    };
    for (const [kind, call] of Object.entries(kinds)) {
      onProgress(`${kind}, ${count} clients`);
      const latencies = new Latencies();
      const end = performance.now() + milliseconds;
      await Promise.all(
        clients.map(async (client) => {
          while (performance.now() < end) {
            const started = performance.now();
            await call(client);
            latencies.add(performance.now() - started);
          }
        }),
      );
      const label = `${kind}, ${count} ${count === 1 ? "client" : "clients"}`;
      figures.push(
        context(label, latencies.count / (milliseconds / 1000), "/s"),
        context(`${label}, p99`, latencies.at(99), "ms"),
      );
    }
  }
  figures.push(...(await pages(callers, address, onProgress)), ...(await audit(callers, address, onProgress)));
  return figures;
}

/** Tenants, each with a version. @returns its name by tenant */
async function prepare(callers: Callers, address: string): Promise<Map<string, string>> {
  const models = await callers.registry(ModelService, address);
  await models.createModel({
    modelId: "bench",
    model: {
      modelChecksum: SHAPE.modelChecksum,
      architecture: "llama",
      layers: SHAPE.layerCount,
      hiddenSize: SHAPE.hiddenSize,
      vocabularySize: 32_000,
    },
  });
  const tenants = await callers.registry(TenantService, address);
  const names = new Map<string, string>();
  for (let index = 0; index < TENANTS; index++) {
    const tenant = `tenant-${index}`;
    await tenants.createTenant({ tenantId: tenant, tenant: { quotas: { maxVectors: 2 * VECTORS } } });
    const vectors = await callers.registry(VectorService, address, { tenant });
    await vectors.createVector({ parent: `tenants/${tenant}`, vectorId: "bench" });
    const { version } = await vectors.publishVersion({
      parent: `tenants/${tenant}/vectors/bench`,
      content: randomVersion(SHAPE, "bench", index + 1),
    });
    names.set(tenant, version?.name ?? "");
  }
  return names;
}

async function pages(callers: Callers, address: string, onProgress: (text: string) => void): Promise<Figure[]> {
  const tenant = "tenant-0";
  const parent = `tenants/${tenant}`;
  const makers = await Promise.all(
    Array.from({ length: MAKERS }, () => callers.registry(VectorService, address, { tenant })),
  );
  let made = 0;
  const started = performance.now();
  await Promise.all(
    makers.map(async (vectors) => {
      for (let next = made++; next < VECTORS; next = made++) {
        if (next % 1000 === 0) onProgress(`${next}/${VECTORS} vectors made`);
        await vectors.createVector({ parent, vectorId: `vector-${next}` });
      }
    }),
  );
  const rate = VECTORS / ((performance.now() - started) / 1000);
  const [reader] = makers as [Vectors];
  const latencies = new Latencies();
  let count = 0;
  for (let pageToken = ""; ; ) {
    const asked = performance.now();
    const page = await reader.listVectors({ parent, pageSize: PAGE, pageToken });
    latencies.add(performance.now() - asked);
    count += page.vectors.length;
    pageToken = page.nextPageToken;
    if (pageToken === "") break;
  }
  if (count < VECTORS) throw new Error(`${count} of ${VECTORS} vectors were listed`);
  return [
    context(`vectors made in one tenant, ${MAKERS} clients`, rate, "/s"),
    context(`a page of ${PAGE} of ${VECTORS} vectors, p50`, latencies.at(50), "ms"),
    context("the same, the slowest", latencies.at(100), "ms"),
  ];
}

async function audit(callers: Callers, address: string, onProgress: (text: string) => void): Promise<Figure[]> {
  onProgress("exporting and verifying the audit");
  const client = await callers.registry(AuditService, address, { tenant: "tenant-0", roles: ["approver"] });
  const lines: string[] = [];
  const exported = performance.now();
  for await (const item of client.exportAudit({ parent: "tenants/tenant-0" })) lines.push(encodeExportLine(item));
  const verified = performance.now();
  const report = await verifyExport(lines, { tenant: "tenant-0" });
  const done = performance.now();
  if (!report.ok) throw new Error(`the audit does not verify: ${report.problems[0]?.reason}`);
  const entries = Number(report.chains.CHANGES.entries + report.chains.READS.entries);
  return [
    context("audit entries exported", entries / ((verified - exported) / 1000), "/s"),
    context("audit entries verified", entries / ((done - verified) / 1000), "/s"),
    context("audit entries", entries, ""),
  ];
}
