import { InferenceService } from "@persona-mesh/protocol";
import { SERVICE_OPTIONS } from "../config/service-options.ts";
import { runService } from "../server/run-service.ts";
import { bindService, startServer } from "../server/server.ts";

// A whole service program around a few handlers, for the tests of processes. The model's name of GetModel says what to do.
await runService({
  name: "echo",
  description: "a service for tests",
  options: SERVICE_OPTIONS,
  start: (config, log) =>
    startServer({
      config,
      log,
      services: [
        bindService(InferenceService, {
          async *generate({ prompt }, { signal }) {
            if (prompt?.input.case === "text") {
              const { value } = prompt.input;
              // Escapes every promise, as a forgotten await does.
              setTimeout(() => {
                if (value === "reject") void Promise.reject(new Error("nobody waits for this"));
                if (value === "throw") throw new Error("nobody catches this");
              });
            }
            yield {};
            await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
          },
          score: async () => ({}),
          async *captureActivations() {},
          getModel: async () => ({ modelChecksum: "echo" }),
          listLoadedPersonas: async () => ({}),
        }),
      ],
    }),
});
