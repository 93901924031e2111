import type { DistributionService } from "@persona-mesh/protocol/registry";
import type { ServiceImplementation } from "@persona-mesh/service";
import type { Distribution } from "./distribution.ts";
import { fetchVersions } from "./fetch-versions.ts";
import { watch } from "./watch.ts";
import { getDistribution, reportWorker } from "./worker-reports.ts";

/** How workers get what they serve, and who has what. */
export function distributionService(distribution: Distribution): ServiceImplementation<typeof DistributionService> {
  return {
    watch: (request, context) => watch(distribution, request, context),
    fetchVersions: (request, context) => fetchVersions(distribution, request, context),
    reportWorker: (request) => reportWorker(distribution, request),
    getDistribution: (request, context) => getDistribution(distribution, request, context),
  };
}
