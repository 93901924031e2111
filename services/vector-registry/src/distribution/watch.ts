import type { MessageInitShape } from "@bufbuild/protobuf";
import { toBinary } from "@bufbuild/protobuf";
import {
  type Change,
  ChangeSchema,
  type WatchRequest,
  type WatchResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import type { Distribution } from "./distribution.ts";
import { requireModelChecksum, requireWorkerName } from "./worker-fields.ts";

type Response = MessageInitShape<typeof WatchResponseSchema>;

/** A bookmark is due after this long without anything else. Milliseconds; the contract says 5 seconds at most. */
const BOOKMARK_INTERVAL = 2_000;

/** Changes of a snapshot in one message, in encoded bytes: far below what a client receives at most. */
const PART_BYTES = 1 << 20;

/**
 * What a worker serves: a snapshot where it needs one, then every change in order. The worker's position is all that is
 * held for it: messages are read when it has room for them.
 */
export async function* watch(
  { feed, snapshots, presence }: Distribution,
  request: WatchRequest,
  context: CallContext,
): AsyncGenerator<Response> {
  const model = requireModelChecksum(request.modelChecksum);
  const worker = requireWorkerName(request.worker);
  context.annotate({ model, worker, resumeRevision: request.resumeRevision ?? null });
  using _ = presence.connect(worker, model);
  let position = request.resumeRevision;
  if (position !== undefined && !(await feed.knows(position))) position = undefined;
  let history = feed.history;
  // Who resumes hears of it at once: it has lost its registry, and says so until there is a sign of life.
  let patience = 0;
  for (;;) {
    if (feed.history !== history) position = undefined;
    history = feed.history;
    if (position === undefined) {
      const { revision, changes } = await snapshots.of(model, history);
      for (const part of partsOf(changes)) {
        yield { event: { case: "snapshot", value: { revision, changes: part.changes, last: part.last } } };
      }
      position = revision;
      patience = BOOKMARK_INTERVAL;
    }
    await feed.wait(position, patience, context.signal);
    patience = BOOKMARK_INTERVAL;
    context.signal.throwIfAborted();
    const reading = await feed.read(model, position);
    if (reading.kind === "closed") {
      // Where to go on at another replica.
      yield { event: { case: "bookmark", value: { revision: position } } };
      throw new ServiceError("DRAINING", "the registry is shutting down; watch again from the last revision");
    }
    if (reading.kind === "compacted") {
      position = undefined;
      continue;
    }
    for (const { revision, changes } of reading.sets) {
      yield {
        event: { case: "changes", value: { revision, previousRevision: position, changes: [...changes] } },
      };
      position = revision;
    }
    if (reading.sets.length === 0 || reading.upTo > position) {
      if (reading.upTo > position) position = reading.upTo;
      yield { event: { case: "bookmark", value: { revision: position } } };
    }
  }
}

/** A snapshot in messages of bounded size; one, and empty, for an empty snapshot. */
export function* partsOf(
  changes: readonly Change[],
): Generator<{ readonly changes: Change[]; readonly last: boolean }> {
  let part: Change[] = [];
  let bytes = 0;
  for (const change of changes) {
    const size = toBinary(ChangeSchema, change).length;
    if (part.length > 0 && bytes + size > PART_BYTES) {
      yield { changes: part, last: false };
      part = [];
      bytes = 0;
    }
    part.push(change);
    bytes += size;
  }
  yield { changes: part, last: true };
}
