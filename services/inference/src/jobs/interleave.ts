import { EventQueue } from "./event-queue.ts";

/**
 * The events of several sources as they come, each with the index of its source. Ends when all have ended, and fails when
 * one fails; whoever leaves earlier ends the sources.
 */
export async function* interleave<Event>(
  sources: readonly AsyncIterable<Event>[],
): AsyncGenerator<readonly [number, Event], void, void> {
  const merged = new EventQueue<readonly [number, Event]>();
  let open = sources.length;
  const forward = async (source: AsyncIterable<Event>, index: number) => {
    try {
      for await (const event of source) merged.push([index, event]);
      if (--open === 0) merged.end();
    } catch (error) {
      merged.fail(error);
    }
  };
  for (const [index, source] of sources.entries()) void forward(source, index);
  yield* merged;
}
