import type { Command, Option } from "commander";

/**
 * Scripts that complete the whole tree of commands. Each holds the tree as it is in this version: completion starts no
 * process, so it is as fast as the shell.
 */

/** What can follow a command's words. */
interface Node {
  /** "" for the program itself, "vector extract" for a command. */
  readonly words: string;
  readonly commands: readonly Command[];
  readonly options: readonly Option[];
}

function nodesOf(program: Command): Node[] {
  const globals = program.options;
  const walk = (command: Command, words: string[]): Node[] => [
    { words: words.join(" "), commands: command.commands, options: [...command.options, ...globals] },
    ...command.commands.flatMap((child) => walk(child, [...words, child.name()])),
  ];
  const [root, ...rest] = walk(program, []);
  return root === undefined ? [] : [{ ...root, options: globals }, ...rest];
}

const longOf = ({ long }: Option): string[] => (long ? [long] : []);

/** Options that take a value, so that the word after them is no command. */
const taking = (nodes: readonly Node[]) =>
  [...new Set(nodes.flatMap(({ options }) => options.filter(({ required }) => required).flatMap(longOf)))].sort();

export function bashCompletion(program: Command): string {
  const nodes = nodesOf(program);
  const cases = nodes.map(({ words, commands, options }) => {
    const next = [...commands.map((command) => command.name()), ...options.flatMap(longOf), "--help"];
    return `    ${quote(words)}) next=${quote(next.join(" "))} ;;`;
  });
  const choices = [...choicesByOption(nodes)].map(
    ([long, values]) => `    ${long}) COMPREPLY=($(compgen -W ${quote(values.join(" "))} -- "$current")); return ;;`,
  );
  return `# persona: completion for bash
_persona() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="" path="" next="" word index
  ((COMP_CWORD > 0)) && previous="\${COMP_WORDS[COMP_CWORD - 1]}"
  local known=${quote(` ${nodes.map(({ words }) => words.replaceAll(" ", "/")).join(" ")} `)}
  local takes=${quote(` ${taking(nodes).join(" ")} `)}
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    if [[ "$takes" == *" $word "* ]]; then
      ((index++))
      continue
    fi
    [[ "$word" == -* ]] && continue
    [[ "$known" == *" \${path:+$path/}$word "* ]] && path="\${path:+$path/}$word"
  done
  case "$previous" in
${choices.join("\n")}
  esac
  if [[ "$takes" == *" $previous "* ]]; then
    COMPREPLY=($(compgen -f -- "$current"))
    return
  fi
  case "\${path//\\// }" in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$next" -- "$current"))
  if [[ \${#COMPREPLY[@]} -eq 0 && "$current" != -* ]]; then COMPREPLY=($(compgen -f -- "$current")); fi
}
complete -o filenames -F _persona persona
`;
}

export function zshCompletion(program: Command): string {
  // zsh runs scripts of bash's completion: one script to keep right, not two.
  return `#compdef persona
autoload -U +X bashcompinit && bashcompinit
${bashCompletion(program)}`;
}

export function fishCompletion(program: Command): string {
  const lines = nodesOf(program).flatMap(({ words, commands, options }) => {
    const path = words.split(" ").filter((word) => word !== "");
    const here = [
      ...path.map((word) => `__fish_seen_subcommand_from ${word}`),
      ...(commands.length === 0
        ? []
        : [`not __fish_seen_subcommand_from ${commands.map((command) => command.name()).join(" ")}`]),
    ].join("; and ");
    const condition = here === "" ? "" : ` -n ${quote(here)}`;
    return [
      ...commands.map(
        (command) => `complete -c persona -f${condition} -a ${command.name()} -d ${quote(command.description())}`,
      ),
      ...options
        .filter((option) => words === "" || !program.options.includes(option))
        .flatMap((option) =>
          longOf(option).map((long) => {
            const value = option.required ? " -r" : "";
            const choices = option.argChoices === undefined ? "" : ` -a ${quote(option.argChoices.join(" "))}`;
            // Options of the program itself are there at every command.
            const where = words === "" ? "" : condition;
            return `complete -c persona${where} -l ${long.slice(2)}${value}${choices} -d ${quote(option.description)}`;
          }),
        ),
    ];
  });
  return `# persona: completion for fish\n${lines.join("\n")}\n`;
}

/** Options whose values are words; one that means something else in another command is left out. */
function choicesByOption(nodes: readonly Node[]): Map<string, readonly string[]> {
  const found = new Map<string, readonly string[] | undefined>();
  for (const option of nodes.flatMap(({ options }) => options)) {
    if (!option.long || !option.required) continue;
    const choices = option.argChoices;
    const same = !found.has(option.long) || found.get(option.long)?.join(" ") === choices?.join(" ");
    found.set(option.long, same ? choices : undefined);
  }
  return new Map([...found].filter((entry): entry is [string, readonly string[]] => entry[1] !== undefined));
}

/** As one word of any shell. */
function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
