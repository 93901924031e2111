import type { Batch, EngineName, EngineOptions, Generated, PeerEngine } from "./peer-engine.ts";

// One engine in a process of its own: its memory and its threads are nobody else's.

/** What the bench asks of the process, one at a time. */
export type Request =
  | { readonly kind: "open"; readonly engine: EngineName; readonly options: EngineOptions }
  | { readonly kind: "generate"; readonly batch: Batch };

export type Reply =
  | { readonly kind: "opened" }
  | { readonly kind: "generated"; readonly generated: Generated }
  | { readonly kind: "failed"; readonly message: string };

let engine: PeerEngine | undefined;

process.on("message", async (request: Request) => {
  try {
    process.send?.(await answer(request));
  } catch (error) {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.send?.({ kind: "failed", message } satisfies Reply);
  }
});
// The bench has gone, however it ended.
process.once("disconnect", () => process.exit());

async function answer(request: Request): Promise<Reply> {
  if (request.kind === "open") {
    engine = await open(request.engine, request.options);
    return { kind: "opened" };
  }
  if (engine === undefined) throw new Error("no engine is open");
  return { kind: "generated", generated: await engine.generate(request.batch) };
}

async function open(name: EngineName, options: EngineOptions): Promise<PeerEngine> {
  switch (name) {
    case "persona-mesh":
      return (await import("./engines/persona-mesh.ts")).openPersonaMesh(options);
    case "transformers.js":
      return (await import("./engines/transformers-js.ts")).openTransformersJs(options);
    case "node-llama-cpp":
      return (await import("./engines/node-llama-cpp.ts")).openNodeLlamaCpp(options);
  }
}
