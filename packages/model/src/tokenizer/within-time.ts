import { createContext, Script } from "node:vm";

// The engine can interrupt only what was started as a script, so the work is called from one.
const timed = createContext({ work: undefined }) as { work: (() => unknown) | undefined };
const callWork = new Script("work()");

/**
 * Run `work` and give up on it in the middle of whatever it does once it has taken too long: also within a regular
 * expression or a built-in function, where no count of steps is kept. Starting it costs about 0.1 ms.
 *
 * @param onTimeout - error to throw then
 * @throws what `work` throws, and what `onTimeout` gives
 */
export function withinTime<T>(milliseconds: number, work: () => T, onTimeout: () => Error): T {
  const outer = timed.work;
  timed.work = work;
  try {
    return callWork.runInContext(timed, { timeout: milliseconds }) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException | undefined)?.code === "ERR_SCRIPT_EXECUTION_TIMEOUT") throw onTimeout();
    throw error;
  } finally {
    timed.work = outer;
  }
}
