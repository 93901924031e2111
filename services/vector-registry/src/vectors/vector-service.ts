import type { VectorService } from "@persona-mesh/protocol/registry";
import type { ServiceImplementation } from "@persona-mesh/service";
import type { Registry } from "../registry.ts";
import { addEvaluation } from "./add-evaluation.ts";
import { createVector, deleteVector, undeleteVector, updateVector } from "./change-vector.ts";
import { deleteAlias } from "./delete-alias.ts";
import { rollbackAlias, setAlias } from "./move-alias.ts";
import { publishVersion } from "./publish-version.ts";
import { getAlias, listAliases, listAliasTargets } from "./read-aliases.ts";
import { getVector, listVectors } from "./read-vectors.ts";
import { getVersion, listVersions } from "./read-versions.ts";
import { revokeVersion } from "./revoke-version.ts";
import { diffVersions, getVersionContent } from "./version-content.ts";

/** Vectors, their immutable versions, and the aliases that point at them. */
export function vectorService(registry: Registry): ServiceImplementation<typeof VectorService> {
  return {
    createVector: (request, context) => createVector(registry, request, context),
    getVector: (request, context) => getVector(registry, request, context),
    listVectors: (request, context) => listVectors(registry, request, context),
    updateVector: (request, context) => updateVector(registry, request, context),
    deleteVector: (request, context) => deleteVector(registry, request, context),
    undeleteVector: (request, context) => undeleteVector(registry, request, context),
    publishVersion: (request, context) => publishVersion(registry, request, context),
    getVersion: (request, context) => getVersion(registry, request, context),
    listVersions: (request, context) => listVersions(registry, request, context),
    getVersionContent: (request, context) => getVersionContent(registry, request, context),
    addEvaluation: (request, context) => addEvaluation(registry, request, context),
    diffVersions: (request, context) => diffVersions(registry, request, context),
    revokeVersion: (request, context) => revokeVersion(registry, request, context),
    setAlias: (request, context) => setAlias(registry, request, context),
    rollbackAlias: (request, context) => rollbackAlias(registry, request, context),
    getAlias: (request, context) => getAlias(registry, request, context),
    listAliases: (request, context) => listAliases(registry, request, context),
    listAliasTargets: (request, context) => listAliasTargets(registry, request, context),
    deleteAlias: (request, context) => deleteAlias(registry, request, context),
  };
}
