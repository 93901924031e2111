import { setTimeout as delay } from "node:timers/promises";
import { type EmbeddedOptions, type EmbeddedPostgres, openEmbedded } from "../embedded.ts";

/** A server that is started again when it ends by itself, on the same addresses and data. */
export interface KeptPostgres {
  /** The server of the moment. */
  readonly current: EmbeddedPostgres;
  close(): Promise<void>;
}

/**
 * Start a server and keep it: one that was killed, or ended for want of memory, is back within a moment, and pools
 * connect to it again by themselves.
 *
 * @param onEnded - told the exit code of a server that nobody stopped; and of restarts that fail, why
 * @throws ServiceError DATABASE_EMBEDDED_FAILED at the first start only
 */
export async function keepRunning(
  options: EmbeddedOptions,
  onEnded?: (cause: number | unknown) => void,
): Promise<KeptPostgres> {
  let current = await openEmbedded(options);
  const closing = new AbortController();
  const keep = async () => {
    while (!closing.signal.aborted) {
      const code = await current.ended;
      if (closing.signal.aborted) return;
      onEnded?.(code);
      await current.close();
      for (let wait = FIRST_WAIT_MS; !closing.signal.aborted; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
        try {
          current = await openEmbedded(options);
          break;
        } catch (error) {
          onEnded?.(error);
          await delay(wait, undefined, { signal: closing.signal, ref: false }).catch(() => undefined);
        }
      }
    }
  };
  const keeping = keep();
  return {
    get current() {
      return current;
    },
    async close() {
      closing.abort();
      await current.close();
      // Another's server never ends for us, and nothing waits for it.
      if (current.owned) await keeping;
      await current.close();
    },
  };
}

const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 10_000;
