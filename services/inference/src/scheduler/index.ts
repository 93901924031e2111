export { FairQueue } from "./fair-queue.ts";
export type { Ended, Ending, FinishReason, Follower, Job } from "./job.ts";
export { Scheduler } from "./scheduler.ts";
export type { Admission, Plan, Refused, SchedulerFigures, SchedulerOptions, Swap } from "./scheduler-contract.ts";
export type { SlotState } from "./slots.ts";
export type { DecodeRow, DecodeStep, Phase, PrefillStep, RowOutcome, Step } from "./step.ts";
