import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type ModelPackage, tokenizerFiles } from "../package/load-package.ts";
import { PACKAGE_FILE } from "../package/manifest.ts";
import { ChatTemplate } from "./chat-template.ts";
import { Tokenizer } from "./tokenizer.ts";

/** How a model's text becomes tokens and back. */
export interface ModelText {
  readonly tokenizer: Tokenizer;
  /** Undefined when the model has no chat template. */
  readonly chatTemplate: ChatTemplate | undefined;
}

/** @throws TokenizerError TOKENIZER_INVALID or CHAT_TEMPLATE_INVALID */
export async function loadTokenizer({ directory, manifest }: ModelPackage): Promise<ModelText> {
  const read = (name: string) => readFile(join(directory, name), "utf8");
  const tokenizer = Tokenizer.parse(await read(PACKAGE_FILE.tokenizer), await read(PACKAGE_FILE.tokenizerConfig));
  const hasTemplate = tokenizerFiles(manifest.files).includes(PACKAGE_FILE.chatTemplate);
  return {
    tokenizer,
    chatTemplate: hasTemplate ? new ChatTemplate(await read(PACKAGE_FILE.chatTemplate), tokenizer) : undefined,
  };
}
