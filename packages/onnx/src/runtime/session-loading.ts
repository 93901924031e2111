import koffi from "koffi";
import { environment } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import type { Handle } from "./handle.ts";
import type { Pointer } from "./library.ts";
import { nativeSessionOptions, type SessionOptions } from "./session-options.ts";

/** A graph: a path, beside which its external data lies, or the bytes of a model, not to be changed while it loads. */
export type ModelSource = string | Uint8Array;

/**
 * One creation of a native session. Holds whatever the native call reads until {@link end}, which must follow also when
 * {@link run} failed.
 */
export class SessionLoading {
  /** Names the model in errors. */
  readonly name: string;
  readonly #source: ModelSource;
  /** Retained here from the start, so that the weights may be closed while the session loads. */
  #weights: Handle | undefined;
  readonly #options: Pointer;
  readonly #container: Pointer | null;
  readonly #result = new BigUint64Array(new ArrayBuffer(8));

  constructor(source: ModelSource, options: SessionOptions) {
    if (typeof source === "string" && source.includes("\0")) {
      throw new OnnxRuntimeError("INVALID_ARGUMENT", "the model's path contains a NUL character");
    }
    if (source.length === 0) throw new OnnxRuntimeError("INVALID_ARGUMENT", "the model is empty");
    this.name = typeof source === "string" ? source : "a model in memory";
    this.#source = source;
    this.#options = nativeSessionOptions(options);
    try {
      this.#container = options.weights?.attach(this.#options, source) ?? null;
    } catch (error) {
      environment().api.ReleaseSessionOptions(this.#options);
      throw error;
    }
    this.#weights = options.weights?.handle;
    this.#weights?.retain();
  }

  run(): Promise<void> {
    const { api, env } = environment();
    const source = this.#source;
    const rest = [this.#options, this.#container, koffi.address(this.#result)] as const;
    return new Promise((resolve, reject) => {
      const done = (error: Error | null) => (error === null ? resolve() : reject(error));
      if (typeof source === "string") {
        api.CreateSessionWithPrepackedWeightsContainer.async(env, source, ...rest, done);
      } else {
        const bytes = koffi.address(source);
        api.CreateSessionFromArrayWithPrepackedWeightsContainer.async(env, bytes, source.length, ...rest, done);
      }
    });
  }

  runSync(): void {
    const { api, env } = environment();
    const source = this.#source;
    const rest = [this.#options, this.#container, koffi.address(this.#result)] as const;
    if (typeof source === "string") {
      api.CreateSessionWithPrepackedWeightsContainer(env, source, ...rest);
    } else {
      const bytes = koffi.address(source);
      api.CreateSessionFromArrayWithPrepackedWeightsContainer(env, bytes, source.length, ...rest);
    }
  }

  /** The session that was created, and what frees it together with its hold on the weights. To be called once. */
  take(): { readonly pointer: Pointer; readonly free: () => void } {
    const { api } = environment();
    const pointer = this.#result[0] ?? 0n;
    const weights = this.#weights;
    this.#weights = undefined;
    return {
      pointer,
      free: () => {
        api.ReleaseSession(pointer);
        weights?.release();
      },
    };
  }

  end(): void {
    environment().api.ReleaseSessionOptions(this.#options);
    this.#weights?.release();
  }
}
