import type { MessageInitShape } from "@bufbuild/protobuf";
import type { EvaluationSchema } from "@persona-mesh/protocol/registry";
import { type Command, InvalidArgumentError } from "commander";
import { decimal } from "../arguments.ts";
import { UsageError } from "../failure.ts";

/** For which alphas a version was seen to work, and how well. */
export interface EvaluationOptions {
  /** Hundredths. */
  alphaMin?: number;
  /** Hundredths. */
  alphaMax?: number;
  figure?: Map<string, number>;
}

export function addEvaluationOptions(command: Command): Command {
  return command
    .option("--alpha-min <alpha>", "smallest alpha that was seen to work", alphaHundredths)
    .option("--alpha-max <alpha>", "largest alpha that was seen to work", alphaHundredths)
    .option("--figure <name=value>", "a figure of the evaluation; repeat it", figure);
}

/** @returns undefined where none of the options is given. @throws UsageError where only some of what is needed is */
export function evaluationOf(options: EvaluationOptions): MessageInitShape<typeof EvaluationSchema> | undefined {
  const { alphaMin, alphaMax, figure: figures } = options;
  if (alphaMin === undefined && alphaMax === undefined && figures === undefined) return undefined;
  if (alphaMin === undefined || alphaMax === undefined) {
    throw new UsageError("OPTIONS_CONFLICT", "an evaluation needs both --alpha-min and --alpha-max");
  }
  return {
    alphaMinHundredths: alphaMin,
    alphaMaxHundredths: alphaMax,
    ...(figures === undefined ? {} : { figures: Object.fromEntries(figures) }),
  };
}

/** An alpha with at most two decimals, in hundredths. */
export function alphaHundredths(value: string): number {
  const hundredths = decimal(-2, 2)(value) * 100;
  if (Math.abs(hundredths - Math.round(hundredths)) > 1e-9) {
    throw new InvalidArgumentError("It must have at most two decimals.");
  }
  return Math.round(hundredths);
}

function figure(value: string, previous: Map<string, number> = new Map()): Map<string, number> {
  const match = /^([^=]+)=(.+)$/.exec(value);
  const number = Number(match?.[2]);
  if (match?.[1] === undefined || !Number.isFinite(number)) {
    throw new InvalidArgumentError('It must be a name and a number, such as "coherence=0.93".');
  }
  return new Map([...previous, [match[1], number]]);
}
