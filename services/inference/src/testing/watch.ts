import { DEFAULT_GUARD_POLICY, type GuardEvent, type GuardPolicy } from "@persona-mesh/steering";
import type { WornPersona } from "../engine/worn-persona.ts";
import { ReplyGuard } from "../guard/reply-guard.ts";
import { ReplyWatch } from "../guard/reply-watch.ts";

/** A reply's guard without baseline or twin, for tests of what is around it. */
export function watchOf(
  worn: WornPersona,
  policy: Partial<GuardPolicy> = {},
): (onEvent: (event: GuardEvent) => void) => ReplyWatch {
  const settings = {
    policy: { ...DEFAULT_GUARD_POLICY, ...policy },
    baseline: undefined,
    observeOnly: false,
    twinActs: false,
  };
  const engine = { submit: () => {}, cancel: () => {} };
  return (onEvent) => new ReplyWatch({ engine, guard: new ReplyGuard(worn, settings), twin: undefined, onEvent });
}
