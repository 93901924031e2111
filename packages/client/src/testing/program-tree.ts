import type { Command } from "commander";
import type { CliIo } from "../cli/io.ts";
import { buildProgram } from "../cli/program.ts";

/** The whole command line, to be looked at and not run. */
export function silentProgram(): Command {
  return buildProgram({ env: {}, stdout: {}, stderr: {} } as unknown as CliIo);
}

/** Every command that does something, with the words that call it. */
export function leaves(command: Command, words: string[] = []): { words: string[]; command: Command }[] {
  if (command.commands.length === 0) return [{ words, command }];
  return command.commands.flatMap((child) => leaves(child, [...words, child.name()]));
}
