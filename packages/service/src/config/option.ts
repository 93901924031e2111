import type { z } from "zod";

/** One setting of a service: how it is checked, what it does, and where it may come from. */
export interface Option<Value = unknown> {
  readonly schema: z.ZodType<Value>;
  /** In force where nothing else is given; undefined leaves the option unset. */
  readonly default: Value;
  /** Effect, in one or two sentences. */
  readonly doc: string;
  readonly unit?: string;
  /** Never printed or logged. */
  readonly secret?: boolean;
  /** What others call it everywhere: a variable that is read too, and gives way to every other source. */
  readonly commonVariable?: string;
}

/** Options by camelCase name. `grpcPort` is `grpcPort` in a file, `PERSONA_GRPC_PORT` in the environment, `--grpc-port` as a flag. */
export type Options = Readonly<Record<string, Option>>;

/** The checked values of a set of options. */
export type Values<Set extends Options> = { readonly [Name in keyof Set]: z.output<Set[Name]["schema"]> };

/** Declare an option; its value's type is that of its schema. */
export function option<Schema extends z.ZodType>(
  schema: Schema,
  details: Omit<Option<z.output<Schema>>, "schema">,
): Omit<Option<z.output<Schema>>, "schema"> & { readonly schema: Schema } {
  return { schema, ...details };
}

/** The same options with other defaults: what differs from service to service. */
export function withDefaults<Set extends Options>(options: Set, defaults: Partial<Values<Set>>): Set {
  return Object.fromEntries(
    Object.entries(options).map(([name, it]) => [
      name,
      Object.hasOwn(defaults, name) ? { ...it, default: defaults[name as keyof Set] } : it,
    ]),
  ) as Set;
}

export function environmentName(name: string): string {
  return `PERSONA_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

export function flagName(name: string): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
