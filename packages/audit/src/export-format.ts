import { fromJsonString, toJsonString } from "@bufbuild/protobuf";
import { AuditChain, type ExportAuditResponse, ExportAuditResponseSchema } from "@persona-mesh/protocol/registry";
import type { AuditChainName } from "./chain.ts";

/** What `AuditExportHeader.format_version` says of exports in this order: header, keys, each root with its inclusions, entries of CHANGES, entries of READS. */
export const EXPORT_FORMAT_VERSION = 1;

/**
 * Longest line, in characters: a payload has at most 1 MiB, and inside a line its quotes and backslashes are escaped once
 * more.
 */
const MAX_LINE_LENGTH = 8 * 1024 * 1024;

/** One message of an export as a line of its file, without the line's end: JSON as protobuf maps it. */
export function encodeExportLine(item: ExportAuditResponse): string {
  return toJsonString(ExportAuditResponseSchema, item);
}

/** @returns undefined for a line that is none, has unknown fields, or is longer than any line */
export function decodeExportLine(line: string): ExportAuditResponse | undefined {
  if (line.length > MAX_LINE_LENGTH) return undefined;
  try {
    return fromJsonString(ExportAuditResponseSchema, line, { ignoreUnknownFields: false });
  } catch {
    return undefined;
  }
}

/**
 * The lines of a file that is read in pieces. Holds one line at most.
 *
 * @throws Error for a line over the limit, with its number
 */
export async function* readLines(
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest = "";
  let number = 0;
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() as string;
    for (const line of lines) {
      number++;
      yield line;
    }
    if (rest.length > MAX_LINE_LENGTH)
      throw new Error(`line ${number + 1} is longer than ${MAX_LINE_LENGTH} characters`);
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}

/** The chain's name; undefined for one that the protocol does not know. */
export function chainName(chain: AuditChain): AuditChainName | undefined {
  if (chain === AuditChain.CHANGES) return "CHANGES";
  return chain === AuditChain.READS ? "READS" : undefined;
}

export function chainOf(name: AuditChainName): AuditChain {
  return name === "CHANGES" ? AuditChain.CHANGES : AuditChain.READS;
}
