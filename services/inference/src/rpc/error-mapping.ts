import { ModelPackageError, TokenizerError } from "@persona-mesh/model";
import { type ErrorMapper, mapByReason, steeringErrors } from "@persona-mesh/service";

/** How the errors of the packages below appear to callers. */
export const ERROR_MAPPERS: readonly ErrorMapper[] = [
  steeringErrors,
  mapByReason(TokenizerError, {
    TOKENIZER_INVALID: "INTERNAL",
    TEXT_TOO_LONG: "PROMPT_TOO_LONG",
    TOKEN_OUT_OF_RANGE: "TOKEN_ID_OUT_OF_RANGE",
    CONTROL_TOKEN_IN_TEXT: "INVALID_ARGUMENT",
    CHAT_TEMPLATE_MISSING: "UNIMPLEMENTED",
    CHAT_TEMPLATE_INVALID: "INTERNAL",
    CHAT_TEMPLATE_FAILED: "INVALID_ARGUMENT",
    CHAT_TEMPLATE_LIMIT: "INVALID_ARGUMENT",
    CHAT_MESSAGES_INVALID: "INVALID_ARGUMENT",
  }),
  mapByReason(ModelPackageError, {
    MODEL_PACKAGE_NOT_FOUND: "CONFIG_INVALID",
    MODEL_PACKAGE_VERSION_UNSUPPORTED: "CONFIG_INVALID",
    MODEL_PACKAGE_EXISTS: "INTERNAL",
    MODEL_PACKAGE_NO_SPACE: "CONFIG_INVALID",
    MODEL_PACKAGE_HAS_OTHER_FILES: "INTERNAL",
    MODEL_PACKAGE_IN_USE: "INTERNAL",
  }),
];
