import type { Message } from "@bufbuild/protobuf";
import type { CommandContext } from "../context.ts";
import { fieldList, type TableColumn, table } from "../table.ts";
import { printable } from "../text-layout.ts";
import { messageJson } from "./message-json.ts";

type Context = Pick<CommandContext, "json" | "print" | "printJson" | "printLines" | "note">;

/** An answer: as it came with `--json`, for people as lines. */
export function printAnswer(context: Context, response: Message, lines: readonly string[]): Promise<void> {
  return context.json ? context.printJson(messageJson(response)) : context.printLines(lines);
}

/** A list: one object with all items under `key`, or a table; a remark where there is nothing. */
export async function printItems<Item extends Message>(
  context: Context,
  { key, items, columns }: { key: string; items: AsyncIterable<Item>; columns: readonly TableColumn<Item>[] },
): Promise<void> {
  const all = await Array.fromAsync(items);
  if (context.json) await context.printJson({ [key]: all.map(messageJson) });
  else if (all.length === 0) context.note("none");
  else await context.printLines(table(columns, all));
}

/** Names and values; those that are empty are left out. */
export function fields(pairs: readonly (readonly [name: string, value: string])[]): string[] {
  const shown = pairs.filter(([, value]) => value !== "").map(([name, value]) => [name, printable(value)] as const);
  return shown.length === 0 ? [] : fieldList(shown);
}

/** Help below a command's options. */
export function examples(lines: readonly string[], remark = ""): string {
  const commands = lines.map((line) => `  $ persona ${line}\n`).join("");
  return `\nExamples:\n${commands}${remark === "" ? "" : `\n${remark}\n`}`;
}
