export { type AdmissionQueue, FifoQueue } from "./admission-queue.ts";
export type { Ended, Ending, FinishReason, Job } from "./job.ts";
export {
  type Admission,
  type Plan,
  Scheduler,
  type SchedulerFigures,
  type SchedulerOptions,
  type Submission,
} from "./scheduler.ts";
export type { SlotState } from "./slots.ts";
export type { DecodeRow, DecodeStep, Phase, PrefillStep, RowOutcome, Step } from "./step.ts";
