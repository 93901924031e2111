import type { BrokenGlass } from "../approvals/break-glass.ts";

/** An alias that points at another version than before. */
export interface MovedAlias {
  readonly vector: string;
  readonly alias: string;
  /** What it points at from now on. */
  readonly digest: string;
  /** What the caller would break the glass with, where that is needed for the active persona to follow `production`. */
  readonly breakGlass?: Pick<BrokenGlass, "action" | "justification">;
}
