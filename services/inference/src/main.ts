import { runService } from "@persona-mesh/service";
import { WORKER_OPTIONS } from "./options.ts";
import { startWorker } from "./start-worker.ts";

await runService({
  name: "inference",
  description: "serves one model over gRPC, every row of the batch in a persona of its own",
  options: WORKER_OPTIONS,
  start: startWorker,
});
