import { createHash } from "node:crypto";
import type { Evaluation, Provenance, PublishVersionRequest } from "@persona-mesh/protocol/registry";
import { type FieldViolation, ServiceError } from "@persona-mesh/service";
import {
  canonicalJson,
  decodeVector,
  type JsonValue,
  SWEEP_CAP_HUNDREDTHS,
  versionDigest,
} from "@persona-mesh/steering";
import { requireFields, textViolations } from "../request-fields.ts";
import { VERSION_NAME } from "../resource-name.ts";
import type { VectorIds } from "./vector-rows.ts";

/** As the database holds at most: a request of it still fits in one message of gRPC's default limit. */
const MAX_CONTENT_BYTES = 3_670_016;
const MAX_PAIRS_BYTES = 1 << 20;
const MAX_FIGURES = 64;
const FIGURE_NAME = /^[a-zA-Z][a-zA-Z0-9_.-]{0,63}$/;
const SUBJECT = { max: 256 };

/** A version that somebody wants to publish, checked in itself. */
export interface WrittenVersion {
  readonly digest: string;
  readonly bytes: Uint8Array;
  readonly manifest: ReturnType<typeof decodeVector>["manifest"];
  readonly provenance: Pick<Provenance, "pairsJson" | "requestedBy" | "job" | "tokenizerDigest">;
  /** Decimal; empty where nothing was random. */
  readonly seed: string;
  readonly parentDigest: string | null;
}

/**
 * @throws ServiceError INVALID_ARGUMENT; SteeringError for bytes that are no version
 */
export function writtenVersion(request: PublishVersionRequest, ids: VectorIds): WrittenVersion {
  const { content } = request;
  if (content.length === 0 || content.length > MAX_CONTENT_BYTES) {
    const description = `${content.length} bytes are not from 1 to ${MAX_CONTENT_BYTES}`;
    throw ServiceError.invalid([{ field: "content", description }]);
  }
  const { manifest } = decodeVector(content);
  const digest = versionDigest(content);
  const {
    pairsJson = "",
    requestedBy = "",
    job = "",
    tokenizerDigest = "",
    parentVersion = "",
    seed,
  } = request.provenance ?? {};
  const parent = parentVersion === "" ? undefined : VERSION_NAME.match(parentVersion);
  const isSameVector = parent?.tenant === ids.tenant && parent.vector === ids.vector;
  requireFields(
    request.digest === "" || request.digest === digest
      ? []
      : [{ field: "digest", description: `is not that of the bytes, ${digest}` }],
    parentVersion === "" || isSameVector
      ? []
      : [{ field: "provenance.parent_version", description: "must be a version of the same vector" }],
    tokenizerDigest === "" || /^[0-9a-f]{64}$/.test(tokenizerDigest)
      ? []
      : [{ field: "provenance.tokenizer_digest", description: "must be a sha256 in lower-case hex" }],
    textViolations("provenance.requested_by", requestedBy, SUBJECT),
    textViolations("provenance.job", job, SUBJECT),
    pairsViolations(pairsJson, "pairsDigest" in manifest ? manifest.pairsDigest : undefined),
  );
  return {
    digest,
    bytes: content,
    manifest,
    provenance: { pairsJson, requestedBy, job, tokenizerDigest },
    seed: seed === undefined ? "" : seed.toString(),
    parentDigest: isSameVector ? (parent?.digest ?? null) : null,
  };
}

/** The pairs are those that the vector was made from, in the one spelling that their digest is taken over. */
function pairsViolations(json: string, expected: string | undefined): FieldViolation[] {
  if (json === "") return [];
  const field = "provenance.pairs_json";
  const bytes = Buffer.byteLength(json);
  if (bytes > MAX_PAIRS_BYTES) return [{ field, description: `${bytes} bytes are over ${MAX_PAIRS_BYTES}` }];
  if (!isCanonical(json)) return [{ field, description: "must be canonical JSON" }];
  const digest = createHash("sha256").update(json).digest("hex");
  if (digest === expected) return [];
  return [{ field, description: `has the digest ${digest}, the manifest says ${expected ?? "nothing of pairs"}` }];
}

function isCanonical(json: string): boolean {
  try {
    return !json.includes("\0") && canonicalJson(JSON.parse(json) as JsonValue) === json;
  } catch {
    return false;
  }
}

/** What is wrong with an evaluation; nothing where there is none. */
export function evaluationViolations(evaluation: Evaluation | undefined): FieldViolation[] {
  if (evaluation === undefined) return [];
  const { alphaMinHundredths: least, alphaMaxHundredths: most, figures } = evaluation;
  const names = Object.keys(figures);
  const outside = [least, most].some((alpha) => Math.abs(alpha) > SWEEP_CAP_HUNDREDTHS);
  const badName = names.find((name) => !FIGURE_NAME.test(name));
  const badValue = names.find((name) => !Number.isFinite(figures[name]));
  const wrong = (field: string, description: string) => [{ field: `evaluation.${field}`, description }];
  return [
    ...(outside ? wrong("alpha_min_hundredths", `${least} to ${most} goes beyond ±${SWEEP_CAP_HUNDREDTHS}`) : []),
    ...(least > most ? wrong("alpha_max_hundredths", `${most} is below alpha_min_hundredths ${least}`) : []),
    ...(names.length > MAX_FIGURES ? wrong("figures", `${names.length} are over ${MAX_FIGURES}`) : []),
    ...(badName === undefined ? [] : wrong("figures", `"${badName.slice(0, 64)}" is no name of a figure`)),
    ...(badValue === undefined ? [] : wrong(`figures["${badValue}"]`, "must be a finite number")),
  ];
}
