import type { ModelManifest } from "@persona-mesh/model";
import type { CallContext, Logger, Metrics } from "@persona-mesh/service";
import { ReplyMetrics } from "./reply-metrics.ts";
import { replyParts } from "./reply-parts.ts";
import type { ServedReply } from "./served-reply.ts";
import { shortDigest } from "./short-digest.ts";

/** Told of every reply once it is over: its figures, and its parts for the trace of its call. */
export class WorkerTelemetry {
  readonly #metrics: ReplyMetrics;
  readonly #log: Pick<Logger, "error">;

  constructor(metrics: Metrics, model: Pick<ModelManifest, "modelChecksum">, log: Pick<Logger, "error">) {
    this.#metrics = new ReplyMetrics(metrics, shortDigest(model.modelChecksum));
    this.#log = log;
  }

  /** Never throws: no figure is worth a reply. */
  replied(reply: ServedReply, { record }: Pick<CallContext, "record">): void {
    try {
      this.#metrics.record(reply);
      for (const part of replyParts(reply)) record(part);
    } catch (error) {
      this.#log.error({ err: error }, "a reply has no figures");
    }
  }
}
