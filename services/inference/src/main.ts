import { runService } from "@persona-mesh/service";
import { WORKER_OPTIONS } from "./options.ts";
import { startWorker } from "./start-worker.ts";

await runService({
  name: "inference",
  description: "serves one model over gRPC, every row of the batch in a persona of its own",
  options: WORKER_OPTIONS,
  // What the command line reads: a shell may have both.
  foreignEnvironment: ["PERSONA_ADDRESS", "PERSONA_TOKEN", "PERSONA_TENANT"],
  start: async (values, log) => {
    const running = await startWorker(values, log);
    void running.broken.then(async (error) => {
      log.fatal({ err: error }, "the runtime is broken; ending, to be started anew");
      await running.close();
      process.exit(1);
    });
    return running;
  },
});
