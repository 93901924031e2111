/** Longest wait for something that must happen: far over what a busy machine takes, so that only a defect reaches it. */
const PATIENCE_MILLIS = 60_000;

/** Between two looks at a condition. Milliseconds. */
const INTERVAL = 5;

/**
 * Wait for a condition that other tasks bring about.
 *
 * @param what - for the message
 * @throws Error when it does not come about
 */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + PATIENCE_MILLIS; !(await condition()); ) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, INTERVAL));
  }
}
