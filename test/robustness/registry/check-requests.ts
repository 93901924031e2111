import type { ContentRead, Request } from "./history.ts";

/** What is there afterwards. */
export interface Kept {
  /** Actions of the audit's entries of changes, by the id of the request that made them. */
  readonly changes: ReadonlyMap<string, readonly string[]>;
  /** How often the audit says that the bytes of a version were read, by its name. */
  readonly reads: ReadonlyMap<string, number>;
  /** Names of what stands in the tables, by the action that makes such; of some actions nothing has a name. */
  readonly rows: ReadonlyMap<string, ReadonlySet<string>>;
}

/** What is not as the clients were told. */
export interface BrokenPromises {
  /** Acknowledged, and not there. */
  readonly lost: string[];
  /** There twice, or without anybody having been told so. */
  readonly unasked: string[];
}

/**
 * Whether what every acknowledged change made is there and in the audit once, nothing that was refused, and that of which
 * nobody knows at most once: a request that is repeated is done once.
 */
export function checkRequests(requests: readonly Request[], { changes, rows }: Kept): BrokenPromises {
  const lost: string[] = [];
  const unasked: string[] = [];
  for (const { action, requestId, what, outcome } of requests) {
    const entries = changes.get(requestId) ?? [];
    // What was so already is written down as such.
    const times = entries.filter((entry) => entry === action || entry === `${action}Again`).length;
    const told = `${action} of ${what ?? "no answer"} (request ${requestId})`;
    const missing = [
      ...(times === 0 ? ["its entry in the audit"] : []),
      ...(what !== undefined && rows.get(action)?.has(what) === false ? ["what it made"] : []),
    ];
    if (outcome.kind === "ok" && missing.length > 0)
      lost.push(`${told} was acknowledged, and ${missing.join(" and ")} is not there`);
    if (outcome.kind === "refused" && entries.length > 0)
      unasked.push(`${told} was refused as ${outcome.reason} and is in the audit as ${entries.join(", ")}`);
    if (times > 1) unasked.push(`${told} was done ${times} times`);
  }
  return { lost, unasked };
}

/** Whether bytes that were read are those of the version, and each read of them was written down. */
export function checkContents(contents: readonly ContentRead[], { reads }: Kept): BrokenPromises {
  const lost = contents.flatMap(({ isIntact, version }) =>
    isIntact ? [] : [`the bytes of ${version} are not those that were published`],
  );
  const unasked = [...Map.groupBy(contents, ({ version }) => version)].flatMap(([version, { length }]) => {
    const written = reads.get(version) ?? 0;
    return length <= written ? [] : [`${version} was read ${length} times, and the audit has ${written} of them`];
  });
  return { lost, unasked };
}
