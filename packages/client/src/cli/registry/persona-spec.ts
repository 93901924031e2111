import { resolve } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { CompositionPolicy, Mode, Positions } from "@persona-mesh/protocol";
import type { PersonaSpecSchema } from "@persona-mesh/protocol/registry";
import { type Command, InvalidArgumentError, Option } from "commander";
import { z } from "zod";
import { readJsonFile } from "../../json-file.ts";
import { LocalError } from "../../local-error.ts";
import { layerList, repeated } from "../arguments.ts";
import { UsageError } from "../failure.ts";
import { alphaHundredths } from "./evaluation-options.ts";
import { type NameScope, versionOrAlias } from "./names.ts";

const MODES = ["add", "add-renorm"] as const;
const POSITIONS = ["all", "prompt", "generated"] as const;
const POLICIES = ["accept", "scale", "orthogonalize", "reject"] as const;

/** 16 terms with every layer of a deep model. */
const MAX_SPEC_BYTES = 1 << 20;

const modeOf = { add: Mode.ADD, "add-renorm": Mode.ADD_RENORM };
const positionsOf = { all: Positions.ALL, prompt: Positions.PROMPT, generated: Positions.GENERATED };
const policyOf = {
  accept: CompositionPolicy.ACCEPT,
  scale: CompositionPolicy.SCALE,
  orthogonalize: CompositionPolicy.ORTHOGONALIZE,
  reject: CompositionPolicy.REJECT,
};

/** What a persona is made of, as options. */
export interface SpecOptions {
  term?: string[];
  mode?: (typeof MODES)[number];
  positions?: (typeof POSITIONS)[number];
  policy?: (typeof POLICIES)[number];
  file?: string;
}

type SpecInit = MessageInitShape<typeof PersonaSpecSchema>;

interface WrittenTerm {
  readonly vector: string;
  /** Hundredths. */
  readonly alpha: number;
  readonly layers: readonly number[];
}

export function addSpecOptions(command: Command): Command {
  return command
    .option(
      "--term <vector=alpha[@layers]>",
      'such as "cheerful@production=0.35" or "cheerful@canary=-0.2@3-5"',
      repeated,
    )
    .addOption(new Option("--mode <mode>", "how the row acts").choices(MODES))
    .addOption(new Option("--positions <where>", "where it acts").choices(POSITIONS))
    .addOption(new Option("--policy <policy>", "when the dose is over the budget").choices(POLICIES))
    .addOption(
      new Option(
        "--file <spec.json>",
        '{"terms": [{"vector", "alpha", "layers"}], "mode", "positions", "policy"}',
      ).conflicts(["term", "mode", "positions", "policy"]),
    );
}

/**
 * @returns undefined where no option speaks of it
 * @throws UsageError, LocalError
 */
export async function specOf(scope: NameScope, options: SpecOptions, cwd: string): Promise<SpecInit | undefined> {
  const written = options.file === undefined ? optionsSpec(options) : await fileSpec(resolve(cwd, options.file));
  if (written === undefined) return undefined;
  const { terms, mode, positions, policy } = written;
  const resolved = [];
  for (const { vector, alpha, layers } of terms) {
    const name = await versionOrAlias(scope, vector);
    resolved.push({ vector: name, alphaHundredths: alpha, layers: [...layers] });
  }
  return {
    terms: resolved,
    ...(mode === undefined ? {} : { mode: modeOf[mode] }),
    ...(positions === undefined ? {} : { positions: positionsOf[positions] }),
    ...(policy === undefined ? {} : { policy: policyOf[policy] }),
  };
}

interface WrittenSpec extends Omit<SpecOptions, "term" | "file"> {
  readonly terms: readonly WrittenTerm[];
}

function optionsSpec({ term, mode, positions, policy }: SpecOptions): WrittenSpec | undefined {
  if (term === undefined) {
    if (mode ?? positions ?? policy) {
      throw new UsageError("OPTIONS_CONFLICT", "--mode, --positions and --policy are written together with the terms");
    }
    return undefined;
  }
  return {
    terms: term.map(parseTerm),
    ...(mode === undefined ? {} : { mode }),
    ...(positions === undefined ? {} : { positions }),
    ...(policy === undefined ? {} : { policy }),
  };
}

/** "VECTOR@ALIAS=ALPHA@LAYERS"; the layers may be left out. @throws UsageError TERM_INVALID */
function parseTerm(text: string): WrittenTerm {
  const [, vector = "", alpha = "", layers] = /^([^=]+)=([^@]+)(?:@(.+))?$/.exec(text) ?? [];
  try {
    return { vector, alpha: alphaHundredths(alpha), layers: layers === undefined ? [] : layerList(layers) };
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new UsageError(
      "TERM_INVALID",
      `"${text}" is no term such as "cheerful@production=0.35@3-5": ${error.message}`,
    );
  }
}

const upperOrLower = (text: unknown) => (typeof text === "string" ? text.toLowerCase().replaceAll("_", "-") : text);
const specFile = z.strictObject({
  terms: z
    .array(
      z.strictObject({
        vector: z.string().min(1),
        alpha: z.number().transform((alpha, check) => {
          const hundredths = Math.round(alpha * 100);
          if (Math.abs(alpha * 100 - hundredths) > 1e-9) check.addIssue("must have at most two decimals");
          return hundredths;
        }),
        layers: z.array(z.number().int().min(0)).default([]),
      }),
    )
    .min(1),
  mode: z.preprocess(upperOrLower, z.enum(MODES)).optional(),
  positions: z.preprocess(upperOrLower, z.enum(POSITIONS)).optional(),
  policy: z.preprocess(upperOrLower, z.enum(POLICIES)).optional(),
});

async function fileSpec(path: string): Promise<WrittenSpec> {
  const parsed = specFile.safeParse(await readJsonFile(path, MAX_SPEC_BYTES));
  if (!parsed.success) throw new LocalError("FILE_INVALID", `${path}: ${z.prettifyError(parsed.error)}`);
  const { terms, mode, positions, policy } = parsed.data;
  return {
    terms,
    ...(mode === undefined ? {} : { mode }),
    ...(positions === undefined ? {} : { positions }),
    ...(policy === undefined ? {} : { policy }),
  };
}
