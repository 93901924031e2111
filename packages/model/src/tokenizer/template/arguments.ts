import { TemplateFailure } from "./template-failure.ts";
import type { Value } from "./values.ts";

/** What a function, a filter or a macro is called with. */
export class Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;

  constructor(positional: readonly Value[] = [], named: ReadonlyMap<string, Value> = new Map()) {
    this.positional = positional;
    this.named = named;
  }

  /**
   * The values of parameters, by position or by name.
   *
   * @param of - the function, for errors
   * @throws TemplateFailure when there are more, or others
   */
  bind<Name extends string>(of: string, ...names: readonly Name[]): { [name in Name]: Value } {
    if (this.positional.length > names.length) {
      throw new TemplateFailure(`${of} takes ${names.length} arguments, not ${this.positional.length}`);
    }
    for (const name of this.named.keys()) {
      if (!names.includes(name as Name)) throw new TemplateFailure(`${of} takes no argument "${name}"`);
    }
    const bound = names.map((name, i) => [
      name,
      i < this.positional.length ? this.positional[i] : this.named.get(name),
    ]);
    return Object.fromEntries(bound) as { [name in Name]: Value };
  }
}
