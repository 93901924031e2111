import type { Metrics } from "@persona-mesh/service";
import type { RegistryDatabase } from "./database/open-database.ts";
import type { Distribution } from "./distribution/distribution.ts";

/** What the registry tells of itself, read when somebody asks. */
export function observeRegistry(
  { meter }: Metrics,
  { service, watch }: RegistryDatabase,
  { feed, presence }: Distribution,
): void {
  const pools = [
    { pool: service.metrics, attributes: { pool: "service" } },
    { pool: watch.metrics, attributes: { pool: "watch" } },
  ];
  const ofPools = (name: string, description: string, figureOf: (pool: (typeof pools)[number]["pool"]) => number) =>
    meter.createObservableGauge(name, { description, unit: "{connection}" }).addCallback((result) => {
      for (const { pool, attributes } of pools) result.observe(figureOf(pool), attributes);
    });
  ofPools("persona.registry.database.open", "Open connections to the database", (pool) => pool.open);
  ofPools("persona.registry.database.idle", "Connections that nobody uses", (pool) => pool.idle);
  ofPools("persona.registry.database.waiting", "Calls that wait for a connection", (pool) => pool.waiting);
  meter
    .createObservableGauge("persona.registry.revision", { description: "Newest revision that workers are told of" })
    .addCallback((result) => result.observe(Number(feed.head)));
  meter
    .createObservableGauge("persona.registry.watchers", { description: "Workers that watch here", unit: "{worker}" })
    .addCallback((result) => result.observe(presence.watchers));
}
