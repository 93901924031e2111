export { type LogitEditParameters, LogitEdits, NO_EDITS, RULED_OUT } from "./logit-edits.ts";
export { uniform } from "./random.ts";
export type { FullRow, Row, TopRow } from "./row.ts";
export {
  MAX_TEMPERATURE,
  type Sampled,
  type SamplingParameters,
  sample,
  type TokenLogProb,
} from "./sampler.ts";
export { MAX_STOP_CHARACTERS, MAX_STOPS, type Scanned, StopScanner } from "./stop.ts";
