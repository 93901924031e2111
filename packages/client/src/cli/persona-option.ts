import type { MessageInitShape } from "@bufbuild/protobuf";
import type { PersonaSelectorSchema } from "@persona-mesh/protocol";
import { type Command, Option } from "commander";
import { decimal } from "./arguments.ts";
import { UsageError } from "./failure.ts";

/** Which persona a command wears. */
export interface PersonaOptions {
  persona?: string;
  revision?: string;
  active?: true;
  unsteered?: true;
  follow?: true;
  gain?: number;
}

export type PersonaInput = MessageInitShape<typeof PersonaSelectorSchema>;

export function addPersonaOptions(command: Command, { unsteered }: { unsteered: boolean }): Command {
  const others = (...names: string[]) => names.filter((name) => unsteered || name !== "unsteered");
  command
    .optionsGroup("Persona:")
    .addOption(
      new Option(
        "--persona <name>",
        'a persona of the tenant, "cheerful" or "tenants/acme/personas/cheerful"',
      ).conflicts(others("active", "unsteered")),
    )
    .addOption(
      new Option("--revision <revision>", "with --persona: this revision of it or none").conflicts(
        others("active", "unsteered"),
      ),
    )
    .addOption(new Option("--active", "the tenant's active persona").conflicts(others("persona", "unsteered")));
  if (unsteered) {
    command
      .addOption(new Option("--unsteered", "no persona").conflicts(["persona", "active", "gain"]))
      .option("--follow", "with --active: a persona that becomes active meanwhile takes over");
  }
  return command.option("--gain <share>", "scale the persona, 0 to 1", decimal(0, 1));
}

/**
 * The selector that the options describe; undefined where they name no persona and no gain, which is the tenant's active
 * persona where there is one.
 *
 * @param tenant - whose persona a short name means
 * @throws UsageError
 */
export function personaSelector(options: PersonaOptions, tenant: string | undefined): PersonaInput | undefined {
  if (options.follow && !options.active) {
    throw new UsageError("OPTIONS_CONFLICT", "--follow needs --active: a named persona never changes");
  }
  const gain = options.gain === undefined ? {} : { gain: options.gain };
  if (options.persona !== undefined) {
    const name = personaName(options.persona, tenant);
    const { revision } = options;
    if (revision === undefined) return { selector: { case: "name", value: name }, ...gain };
    return { selector: { case: "revision", value: `${name}/revisions/${revision}` }, ...gain };
  }
  if (options.revision !== undefined) {
    throw new UsageError("OPTIONS_CONFLICT", "--revision needs --persona: it is a revision of that persona");
  }
  if (options.active) {
    return { selector: { case: "active", value: { follow: options.follow === true } }, ...gain };
  }
  if (options.unsteered) return { selector: { case: "unsteered", value: {} } };
  return options.gain === undefined ? undefined : gain;
}

/** The full name of a persona. Names with a slash are taken as they are: the worker says what is wrong with them. */
export function personaName(name: string, tenant: string | undefined): string {
  if (name.includes("/")) return name;
  if (tenant === undefined) {
    throw new UsageError("TENANT_UNKNOWN", `the token names no tenant: write tenants/TENANT/personas/${name}`);
  }
  return `tenants/${tenant}/personas/${name}`;
}
