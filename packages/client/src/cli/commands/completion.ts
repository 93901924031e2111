import type { Command } from "commander";
import { bashCompletion, fishCompletion, zshCompletion } from "../completion-scripts.ts";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";

const HELP = `
Examples:
  $ source <(persona completion bash)
  $ persona completion zsh > ~/.zfunc/_persona
  $ persona completion fish > ~/.config/fish/completions/persona.fish
`;

const SCRIPTS = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion };
type Shell = keyof typeof SCRIPTS;

export function addCompletion(program: Command, io: CliIo): void {
  const command = program
    .command("completion")
    .description("Print a script that completes commands and options in a shell")
    .addHelpText("after", HELP);
  command
    .addArgument(command.createArgument("<shell>").choices(Object.keys(SCRIPTS)))
    .action((shell: Shell, _options, self: Command) => new CommandContext(io, self).print(SCRIPTS[shell](program)));
}
