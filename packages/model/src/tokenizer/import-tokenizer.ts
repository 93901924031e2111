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
 * The chat template comes from `chat_template.jinja` if there is one, else from tokenizer_config.json. Start and end tokens
 * come from the model's config, else from the tokenizer's.
 *
 * @throws CheckpointError CHECKPOINT_NOT_FOUND, CHECKPOINT_TOKENIZER_INVALID
 */
export async function importTokenizer(checkpoint: Checkpoint): Promise<ImportedTokenizer> {
  const require = async (name: string): Promise<string> => {
    const text = await checkpoint.files.readText(name);
    if (text === undefined) throw new CheckpointError("CHECKPOINT_NOT_FOUND", `the checkpoint has no "${name}"`);
    return text;
  };
  const tokenizerJson = await require(PACKAGE_FILE.tokenizer);
  const configJson = await require(PACKAGE_FILE.tokenizerConfig);
  const templateFile = await checkpoint.files.readText(PACKAGE_FILE.chatTemplate);
  try {
    const tokenizer = Tokenizer.parse(tokenizerJson, configJson);
    const template = templateFile ?? chatTemplateOf(parseTokenizerConfig(configJson));
    if (template !== undefined) new ChatTemplate(template, tokenizer);
    const { spec, bosTokenId, eosTokenIds } = checkpoint.config;
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
