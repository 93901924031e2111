import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import type { Reply, Request } from "./engine-child.ts";
import type { Batch, EngineName, EngineOptions, Generated } from "./peer-engine.ts";
import { type ProcessMemory, processMemory } from "./process-memory.ts";

/** An engine in a process of its own. It is killed at the latest when this process exits. */
export class EngineProcess implements Disposable {
  /** From starting the process to a model that can generate, milliseconds. */
  readonly openMillis: number;
  readonly #name: EngineName;
  readonly #child: ChildProcess;
  readonly #kill: () => void;

  static async start(name: EngineName, options: EngineOptions): Promise<EngineProcess> {
    const started = performance.now();
    const child = fork(new URL("./engine-child.ts", import.meta.url), {
      // What an engine prints is for people who wait; stdout carries the figures.
      stdio: ["ignore", 2, 2, "ipc"],
    });
    const kill = () => child.kill("SIGKILL");
    // Before the folder with the model is removed.
    process.prependOnceListener("exit", kill);
    try {
      await ask(name, child, { kind: "open", engine: name, options });
      return new EngineProcess(name, child, kill, performance.now() - started);
    } catch (error) {
      process.off("exit", kill);
      kill();
      throw error;
    }
  }

  private constructor(name: EngineName, child: ChildProcess, kill: () => void, openMillis: number) {
    this.#name = name;
    this.#child = child;
    this.#kill = kill;
    this.openMillis = openMillis;
  }

  async generate(batch: Batch): Promise<Generated> {
    const reply = await ask(this.#name, this.#child, { kind: "generate", batch });
    if (reply.kind !== "generated") throw new Error(`${this.#name} answered "${reply.kind}" to a batch`);
    const { ids } = reply.generated;
    const counts = ids.map((row) => row.length);
    if (ids.length !== batch.prompts.length || counts.some((count) => count !== batch.tokens)) {
      throw new Error(`${this.#name} gave ${counts.join(", ")} tokens, not ${batch.tokens} for each prompt`);
    }
    return reply.generated;
  }

  memory(): ProcessMemory {
    return processMemory(this.#child.pid as number);
  }

  [Symbol.dispose](): void {
    process.off("exit", this.#kill);
    this.#kill();
  }
}

async function ask(name: EngineName, child: ChildProcess, request: Request): Promise<Reply> {
  const answered = new AbortController();
  const { signal } = answered;
  try {
    const reply = once(child, "message", { signal });
    const ended = once(child, "exit", { signal }).then(([code, killedBy]) => {
      throw new Error(`the process of ${name} ended with ${code ?? killedBy}`);
    });
    child.send(request);
    const [message] = (await Promise.race([reply, ended])) as [Reply];
    if (message.kind === "failed") throw new Error(`${name}: ${message.message}`);
    return message;
  } finally {
    // What lost the race is rejected for it, which nobody waits for any more.
    answered.abort();
  }
}
