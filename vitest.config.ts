import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: [
            "packages/*/src/**/*.test.ts",
            "services/*/src/**/*.test.ts",
            "demo/src/**/*.test.ts",
            "deploy/*/src/**/*.test.ts",
            "tools/**/*.test.ts",
          ],
          // The tests load native code and map model weights: processes, not threads.
          pool: "forks",
          testTimeout: 60_000,
          // Hooks start databases; on a busy machine that takes longer than the 10 seconds of the default.
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/**/*.test.ts"],
          pool: "forks",
          // Each file starts real services on both cores of a small machine; one at a time keeps them honest.
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
