import type { GuardEvent, GuardPolicy } from "@persona-mesh/steering";
import type { Engine } from "../engine/engine.ts";
import { WornPersona } from "../engine/worn-persona.ts";
import type { SteeringTable } from "../table/index.ts";
import { ReplyGuard } from "./reply-guard.ts";
import { ReplyWatch } from "./reply-watch.ts";
import type { ServedBaseline } from "./served-baseline.ts";
import { isTwinned } from "./twin-draw.ts";
import { TwinJob } from "./twin-job.ts";

/** What a worker watches replies with. */
export interface Watcher {
  readonly engine: Pick<Engine, "submit" | "cancel">;
  readonly table: SteeringTable;
  readonly baseline: ServedBaseline;
}

/** A reply that is to be watched. */
export interface WatchedReply {
  /** Of its job. */
  readonly id: string;
  readonly tenant: string;
  readonly prompt: readonly number[];
  readonly worn: WornPersona;
  readonly temperature: number;
  /** Most tokens that it may have, at least 1. */
  readonly maxTokens: number;
  /** The tenant's. */
  readonly policy: GuardPolicy;
  readonly request: WatchRequest;
}

/** What a call asks of the guard. */
export interface WatchRequest {
  readonly observeOnly: boolean;
  /** Undefined leaves it to the policy's share. */
  readonly twin: boolean | undefined;
  /** Divergence from the twin lowers alpha too. */
  readonly twinActs: boolean;
}

/** The watch of a reply: its guard, and a twin where its call asks for one or the policy's share draws it. */
export function watchReply(
  { engine, table, baseline }: Watcher,
  reply: WatchedReply,
  onEvent: (event: GuardEvent) => void,
): ReplyWatch {
  const { worn, policy, request, temperature } = reply;
  const { observeOnly, twinActs } = request;
  const guard = new ReplyGuard(worn, { policy, baseline: baseline.for(policy, temperature), observeOnly, twinActs });
  const twin = hasTwin(reply)
    ? new TwinJob({
        id: `${reply.id}/twin`,
        tenant: reply.tenant,
        prompt: reply.prompt,
        maxTokens: reply.maxTokens,
        windowTokens: policy.windowTokens,
        worn: new WornPersona(table, { current: () => undefined, follow: false, gain: 1 }),
        onCompared: (kl) => watch.compare(kl),
      })
    : undefined;
  const watch = new ReplyWatch({ engine, guard, twin, onEvent });
  return watch;
}

/** An unsteered reply is its own twin. */
function hasTwin({ id, worn, policy, request }: WatchedReply): boolean {
  if (worn.persona === undefined) return false;
  return request.twin ?? isTwinned(id, policy.twinShareBasisPoints);
}
