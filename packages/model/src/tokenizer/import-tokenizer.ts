import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { CheckpointError, TokenizerError } from "../errors.ts";
import { type ModelManifest, PACKAGE_FILE } from "../package/manifest.ts";
import { ChatTemplate } from "./chat-template.ts";
import { Tokenizer } from "./tokenizer.ts";
import { chatTemplateOf, parseTokenizerConfig } from "./tokenizer-files.ts";

/** The tokenizer part of a package. */
export interface ImportedTokenizer {
  /** Contents by file name. */
  readonly files: Readonly<Record<string, string>>;
  readonly tokens: ModelManifest["tokens"];
}

/**
 * Read a checkpoint's tokenizer, and prove that it loads here and fits the model.
 *
 * The chat template comes from `chat_template.jinja` if there is one, which must not be empty, else from
 * tokenizer_config.json. Start and end tokens come from the model's config, else from the tokenizer's. Added tokens without an embedding (text models are cut out of
 * models that see, too) are left out: nothing could be done with them.
 *
 * @throws CheckpointError CHECKPOINT_NOT_FOUND, CHECKPOINT_TOKENIZER_INVALID
 */
export async function importTokenizer(checkpoint: Checkpoint): Promise<ImportedTokenizer> {
  const require = async (name: string): Promise<string> => {
    const text = await checkpoint.files.readText(name);
    if (text === undefined) throw new CheckpointError("CHECKPOINT_NOT_FOUND", `the checkpoint has no "${name}"`);
    return text;
  };
  const writtenJson = await require(PACKAGE_FILE.tokenizer);
  const configJson = await require(PACKAGE_FILE.tokenizerConfig);
  const templateFile = await checkpoint.files.readText(PACKAGE_FILE.chatTemplate);
  if (templateFile !== undefined && isBlank(templateFile)) {
    throw new CheckpointError(
      "CHECKPOINT_TOKENIZER_INVALID",
      `"${PACKAGE_FILE.chatTemplate}" is empty: every chat would become no text at all; download it again, or delete it ` +
        "if the model has no chat template",
    );
  }
  try {
    const { spec, bosTokenId, eosTokenIds } = checkpoint.config;
    const [tokenizerJson, tokenizer] = parseForModel(writtenJson, configJson, spec.vocabulary);
    const template = templateFile ?? writtenInConfig(configJson);
    if (template !== undefined) requireUsable(new ChatTemplate(template, tokenizer));
    if (tokenizer.vocabularySize > spec.vocabulary) {
      throw new CheckpointError(
        "CHECKPOINT_TOKENIZER_INVALID",
        `the tokenizer has token ids up to ${tokenizer.vocabularySize - 1}, the model only ${spec.vocabulary} embeddings`,
      );
    }
    const named = (role: string) => tokenizer.controlTokens.get(tokenizer.namedTokens[role] ?? "");
    const eos = named("eos_token");
    return {
      files: {
        [PACKAGE_FILE.tokenizer]: tokenizerJson,
        [PACKAGE_FILE.tokenizerConfig]: configJson,
        ...(template !== undefined && { [PACKAGE_FILE.chatTemplate]: template }),
      },
      tokens: {
        bos: bosTokenId ?? named("bos_token") ?? null,
        eos: eosTokenIds.length > 0 || eos === undefined ? [...eosTokenIds] : [eos],
      },
    };
  } catch (error) {
    if (!(error instanceof TokenizerError)) throw error;
    throw new CheckpointError("CHECKPOINT_TOKENIZER_INVALID", error.message, { cause: error });
  }
}

/** The template of tokenizer_config.json; an empty one, as base models have, is none. */
function writtenInConfig(configJson: string): string | undefined {
  const template = chatTemplateOf(parseTokenizerConfig(configJson));
  return template === undefined || isBlank(template) ? undefined : template;
}

function isBlank(text: string): boolean {
  return text.trim() === "";
}

/** @returns the contents of tokenizer.json for a model of so many embeddings, and the tokenizer */
function parseForModel(tokenizerJson: string, configJson: string, embeddings: number): [string, Tokenizer] {
  const tokenizer = Tokenizer.parse(tokenizerJson, configJson);
  if (tokenizer.vocabularySize <= embeddings) return [tokenizerJson, tokenizer];
  const named = new Set(Object.values(tokenizer.namedTokens));
  const file = JSON.parse(tokenizerJson) as { added_tokens?: { id: number; content: string }[] };
  const added_tokens = file.added_tokens?.filter(({ id, content }) => id < embeddings || named.has(content));
  const cut = JSON.stringify({ ...file, added_tokens });
  return [cut, Tokenizer.parse(cut, configJson)];
}

/**
 * A template may refuse the plainest chat, but it may not run for ever on it.
 *
 * @throws TokenizerError CHAT_TEMPLATE_LIMIT
 */
function requireUsable(template: ChatTemplate): void {
  try {
    template.render([{ role: "user", content: "Hello" }]);
  } catch (error) {
    if (error instanceof TokenizerError && error.reason === "CHAT_TEMPLATE_LIMIT") throw error;
  }
}
