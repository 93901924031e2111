import { z } from "zod";
import type { Config } from "./load.ts";
import { environmentName, flagName, type Options } from "./option.ts";

/** The configuration in force, one line per option with the origin of its value; secrets are not shown. */
export function describeConfig<Set extends Options>(config: Config<Set>): string {
  const rows = Object.entries(config.options).map(([name, { secret, unit }]) => {
    const value = config.values[name as keyof Set];
    const shown = value === undefined ? "(unset)" : secret ? "(secret)" : JSON.stringify(value);
    return {
      name,
      shown: unit !== undefined && value !== undefined ? `${shown} ${unit}` : shown,
      origin: config.origins[name],
    };
  });
  const nameWidth = Math.max(...rows.map((row) => row.name.length));
  const valueWidth = Math.min(48, Math.max(...rows.map((row) => row.shown.length)));
  return rows.map((row) => `${row.name.padEnd(nameWidth)}  ${row.shown.padEnd(valueWidth)}  ${row.origin}`).join("\n");
}

/** What `--help` prints: every option with its effect, default, range and names. */
export function describeOptions(options: Options): string {
  const blocks = Object.entries(options).map(([name, it]) => {
    const fallback = it.default === undefined ? "unset" : it.secret ? "(secret)" : JSON.stringify(it.default);
    const facts = [`default ${fallback}${it.unit === undefined ? "" : ` ${it.unit}`}`, rangeOf(it.schema)].filter(
      Boolean,
    );
    const common = it.commonVariable === undefined ? "" : `, ${it.commonVariable}`;
    return `  ${flagName(name)}, ${environmentName(name)}${common}, "${name}"\n      ${it.doc}\n      ${facts.join(", ")}`;
  });
  const sources =
    "Values come from defaults, a JSON file (--config FILE or PERSONA_CONFIG), PERSONA_* variables and flags; the later wins.";
  return `${sources}\n--print-config shows what is in force and where it came from.\n\n${blocks.join("\n\n")}\n`;
}

/** The values that a schema takes, as far as JSON Schema can say it in a few words. */
function rangeOf(schema: z.ZodType): string {
  const json = z.toJSONSchema(schema, { unrepresentable: "any" });
  if (json.enum !== undefined) return `one of ${json.enum.join(", ")}`;
  if (json.minimum !== undefined && json.maximum !== undefined) return `${json.minimum} to ${json.maximum}`;
  return "";
}
