import { readFileSync } from "node:fs";
import type { z } from "zod";
import { ServiceError } from "../errors/service-error.ts";
import { environmentName, flagName, type Options, type Values } from "./option.ts";

/** A service's checked configuration, and where each value came from. */
export interface Config<Set extends Options> {
  readonly options: Set;
  readonly values: Values<Set>;
  readonly origins: Readonly<Record<keyof Set, string>>;
}

export interface ConfigSources {
  /** Arguments after the program's name: `--grpc-port 7070`, `--grpc-port=7070`; a flag alone means true. */
  readonly args?: readonly string[];
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** A JSON file with option names as keys; `--config FILE` and PERSONA_CONFIG name one too. */
  readonly file?: string;
  /** `PERSONA_*` variables of other programs, to be left alone rather than refused. */
  readonly foreignEnvironment?: readonly string[];
}

/**
 * Read a configuration: defaults, overridden by variables that others know too, by a JSON file, by the environment, by
 * flags. Every problem is reported, not only the first; names that no option has are problems.
 *
 * @throws ServiceError CONFIG_INVALID with a field violation per problem
 */
export function loadConfig<Set extends Options>(options: Set, sources: ConfigSources = {}): Config<Set> {
  const problems: Problem[] = [];
  const flags = readFlags(options, sources.args ?? [], problems);
  const environment = readEnvironment(options, sources, problems);
  const file = flags.config ?? sources.environment?.[environmentName("config")] ?? sources.file;
  const layers = [
    readCommonVariables(options, sources),
    ...(file === undefined ? [] : [readJsonFile(options, file, problems)]),
    environment,
    flags.layer,
  ];

  const values: Record<string, unknown> = {};
  const origins: Record<string, string> = {};
  for (const [name, { schema, default: fallback }] of Object.entries(options)) {
    const found = layers.findLast((layer) => layer.has(name))?.get(name);
    const given = found ?? { value: fallback, origin: "default", isText: false };
    const parsed = given.isText ? parseText(schema, String(given.value)) : schema.safeParse(given.value);
    if (parsed.success) values[name] = parsed.data;
    else problems.push({ name, why: `${reasonsOf(parsed.error)} (from ${given.origin})` });
    origins[name] = given.origin;
  }
  if (problems.length > 0) throw invalid(problems);
  return { options, values: values as Values<Set>, origins: origins as Record<keyof Set, string> };
}

/** A check that needs several options; a service adds its own. @throws ServiceError CONFIG_INVALID */
export function requireConfig(condition: boolean, name: string, why: string): asserts condition {
  if (!condition) throw invalid([{ name, why }]);
}

interface Problem {
  readonly name: string;
  readonly why: string;
}

interface Given {
  readonly value: unknown;
  readonly origin: string;
  /** Environment and flags only have text: a schema that does not take the text itself gets it read as JSON. */
  readonly isText: boolean;
}

type Layer = ReadonlyMap<string, Given>;

function invalid(problems: readonly Problem[]): ServiceError {
  const lines = problems.map(({ name, why }) => `${name}: ${why}`);
  return new ServiceError("CONFIG_INVALID", lines.join("\n"), {
    fieldViolations: problems.map(({ name, why }) => ({ field: name, description: why })),
  });
}

function parseText(schema: z.ZodType, text: string): z.ZodSafeParseResult<unknown> {
  const asText = schema.safeParse(text);
  if (asText.success) return asText;
  try {
    return schema.safeParse(JSON.parse(text));
  } catch {
    return asText;
  }
}

function reasonsOf(error: z.ZodError): string {
  return error.issues.map(({ path, message }) => [...path, message].join(": ")).join("; ");
}

function readJsonFile(options: Options, path: string, problems: Problem[]): Layer {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    problems.push({ name: "config", why: `${path} cannot be read as JSON: ${(error as Error).message}` });
    return new Map();
  }
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    problems.push({ name: "config", why: `${path} is not a JSON object` });
    return new Map();
  }
  const layer = new Map<string, Given>();
  for (const [name, value] of Object.entries(content)) {
    if (Object.hasOwn(options, name)) layer.set(name, { value, origin: path, isText: false });
    else problems.push({ name, why: `no such option (from ${path})${suggestion(name, Object.keys(options))}` });
  }
  return layer;
}

function readEnvironment(options: Options, sources: ConfigSources, problems: Problem[]): Layer {
  const names = new Map(Object.keys(options).map((name) => [environmentName(name), name]));
  const known = new Set([environmentName("config"), ...(sources.foreignEnvironment ?? [])]);
  const layer = new Map<string, Given>();
  for (const [variable, value] of Object.entries(sources.environment ?? {})) {
    if (value === undefined || !variable.startsWith("PERSONA_") || known.has(variable)) continue;
    const name = names.get(variable);
    if (name !== undefined) layer.set(name, { value, origin: variable, isText: true });
    else if (!isServiceLink(variable, value)) {
      problems.push({ name: variable, why: `no such option${suggestion(variable, [...names.keys()])}` });
    }
  }
  return layer;
}

function readCommonVariables(options: Options, { environment = {} }: ConfigSources): Layer {
  const layer = new Map<string, Given>();
  for (const [name, { commonVariable: origin }] of Object.entries(options)) {
    const value = origin === undefined ? undefined : environment[origin];
    if (origin !== undefined && value !== undefined) layer.set(name, { value, origin, isText: true });
  }
  return layer;
}

/** Kubernetes sets such variables in every pod for every Service whose name begins with "persona". */
function isServiceLink(variable: string, value: string): boolean {
  return (
    /_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?$/.test(variable) ||
    /^(tcp|udp):/.test(value)
  );
}

function readFlags(options: Options, args: readonly string[], problems: Problem[]): { layer: Layer; config?: string } {
  const names = new Map([...Object.keys(options), "config"].map((name) => [flagName(name), name]));
  const layer = new Map<string, Given>();
  for (let i = 0; i < args.length; i++) {
    const [flag = "", ...rest] = (args[i] ?? "").split("=");
    const name = names.get(flag);
    if (name === undefined) {
      problems.push({ name: flag, why: `no such option${suggestion(flag, [...names.keys()])}` });
      // Its value is no flag of its own.
      if (rest.length === 0 && !args[i + 1]?.startsWith("--")) i++;
      continue;
    }
    const next = args[i + 1];
    const isAlone = rest.length === 0 && (next === undefined || next.startsWith("--"));
    const value = rest.length > 0 ? rest.join("=") : isAlone ? "true" : next;
    if (rest.length === 0 && !isAlone) i++;
    layer.set(name, { value, origin: flag, isText: true });
  }
  const config = layer.get("config")?.value;
  layer.delete("config");
  return config === undefined ? { layer } : { layer, config: String(config) };
}

/** The known name nearest to a wrong one, if it is near enough to be a slip. */
function suggestion(wrong: string, known: readonly string[]): string {
  const [best] = known
    .map((name) => ({ name, distance: distance(wrong, name) }))
    .sort((a, b) => a.distance - b.distance);
  return best !== undefined && best.distance <= Math.max(2, wrong.length / 5) ? `; did you mean ${best.name}?` : "";
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
