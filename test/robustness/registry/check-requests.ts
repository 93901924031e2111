import type { ContentRead, Request } from "./history.ts";

/** What the audit has of one tenant or of several. */
export interface AuditedCalls {
  /** Actions of the entries of changes, by the id of the request that made them. */
  readonly changes: ReadonlyMap<string, readonly string[]>;
  /** How often the bytes of a version were read, by its name. */
  readonly reads: ReadonlyMap<string, number>;
}

/** What is not as the clients were told. */
export interface BrokenPromises {
  /** Acknowledged, and not there. */
  readonly lost: string[];
  /** There twice, or without anybody having been told so. */
  readonly unasked: string[];
}

/**
 * Whether the audit has every acknowledged change once, none that was refused, and those of which nobody knows at most
 * once: a request that is repeated is done once.
 */
export function checkRequests(requests: readonly Request[], { changes }: AuditedCalls): BrokenPromises {
  const lost: string[] = [];
  const unasked: string[] = [];
  for (const { action, requestId, what, outcome } of requests) {
    const entries = changes.get(requestId) ?? [];
    // What was so already is written down as such.
    const times = entries.filter((entry) => entry === action || entry === `${action}Again`).length;
    const told = `${action} of ${what ?? "no answer"} (request ${requestId})`;
    if (outcome.kind === "ok" && times === 0) lost.push(`${told} was acknowledged and has no entry in the audit`);
    if (outcome.kind === "refused" && entries.length > 0)
      unasked.push(`${told} was refused as ${outcome.reason} and is in the audit as ${entries.join(", ")}`);
    if (times > 1) unasked.push(`${told} was done ${times} times`);
  }
  return { lost, unasked };
}

/** Whether bytes that were read are those of the version, and each read of them was written down. */
export function checkContents(contents: readonly ContentRead[], { reads }: AuditedCalls): BrokenPromises {
  const lost = contents.flatMap(({ isIntact, version }) =>
    isIntact ? [] : [`the bytes of ${version} are not those that were published`],
  );
  const unasked = [...Map.groupBy(contents, ({ version }) => version)].flatMap(([version, { length }]) => {
    const written = reads.get(version) ?? 0;
    return length <= written ? [] : [`${version} was read ${length} times, and the audit has ${written} of them`];
  });
  return { lost, unasked };
}
