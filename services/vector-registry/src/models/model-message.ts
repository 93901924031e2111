import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type ModelSchema, ResourceState } from "@persona-mesh/protocol/registry";
import type { Selectable } from "kysely";
import type { ModelsTable } from "../database/schema.ts";
import { etagOf } from "../etag.ts";
import { MODEL_NAME } from "../resource-name.ts";

/** A model as callers see it. */
export function modelMessage(row: Selectable<ModelsTable>): MessageInitShape<typeof ModelSchema> {
  return {
    name: MODEL_NAME.format(row),
    displayName: row.display_name,
    modelChecksum: row.model_checksum,
    architecture: row.architecture,
    layers: row.layers,
    hiddenSize: row.hidden_size,
    vocabularySize: row.vocabulary_size,
    tokenizerDigest: row.tokenizer_digest,
    referenceNorms: row.reference_norms,
    state: row.deleted_at === null ? ResourceState.ACTIVE : ResourceState.DELETED,
    createTime: timestampFromDate(row.created_at),
    updateTime: timestampFromDate(row.updated_at),
    ...(row.deleted_at === null ? {} : { deleteTime: timestampFromDate(row.deleted_at) }),
    etag: etagOf(row),
  };
}

/** What the audit says of a model. */
export function auditedModel(row: Selectable<ModelsTable>) {
  return {
    modelChecksum: row.model_checksum,
    displayName: row.display_name,
    architecture: row.architecture,
    layers: row.layers,
    hiddenSize: row.hidden_size,
    vocabularySize: row.vocabulary_size,
    tokenizerDigest: row.tokenizer_digest,
    referenceNorms: [...row.reference_norms],
    deleted: row.deleted_at !== null,
  };
}
