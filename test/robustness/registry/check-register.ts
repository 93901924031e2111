import type { Operation, Read, Write } from "./history.ts";

/** One thing that cannot have happened if the register were one register. */
export interface Violation {
  readonly key: string;
  readonly what: string;
}

/**
 * Whether each key behaves as one register: as if every operation took effect at one moment between its invocation and
 * its answer.
 *
 * The registry numbers the states of an alias (its etag), so the order of the writes is known and need not be searched
 * for. What is left to check: an operation that was over before another began has the lower number (the same where both
 * are reads, or a read follows a write), nobody reads what was not written, or was written only later, or was refused,
 * no two writes have one number, and each write replaced the very state that it expected.
 */
export function checkRegisters(history: readonly Operation[]): Violation[] {
  return [...Map.groupBy(history, ({ key }) => key)].flatMap(([key, operations]) => checkRegister(key, operations));
}

function checkRegister(key: string, operations: readonly Operation[]): Violation[] {
  const writes = operations.filter((it): it is Write => it.kind === "write");
  const reads = operations.filter((it): it is Read => it.kind === "read");
  return [...checkNumbers(key, writes), ...checkReads(key, reads, writes), ...checkRealTime(key, operations)];
}

function checkNumbers(key: string, writes: readonly Write[]): Violation[] {
  const seen = new Map<bigint, Write>();
  return writes.flatMap((write) => {
    if (write.order === undefined) {
      return write.outcome.kind === "ok"
        ? [{ key, what: `an acknowledged write of ${write.value} has no number` }]
        : [];
    }
    const other = seen.get(write.order);
    seen.set(write.order, write);
    return [
      ...(other === undefined ? [] : [{ key, what: `two writes have the number ${write.order}` }]),
      ...(write.order === write.expected + 1n
        ? []
        : [{ key, what: `a write that expected number ${write.expected} got the number ${write.order}` }]),
    ];
  });
}

function checkReads(key: string, reads: readonly Read[], writes: readonly Write[]): Violation[] {
  const byOrder = new Map(
    writes.flatMap((write) => (write.order === undefined ? [] : [[write.order, write] as const])),
  );
  const values = new Map<bigint, string>();
  return reads.flatMap(({ order, value, completed }) => {
    if (value === undefined) return order === 0n ? [] : [{ key, what: `number ${order} was read without a value` }];
    const before = values.get(order);
    values.set(order, value);
    if (before !== undefined && before !== value) return [{ key, what: `number ${order} was read as two values` }];
    const write = byOrder.get(order);
    if (write !== undefined) {
      if (write.value !== value)
        return [{ key, what: `number ${order} was written as ${write.value} and read as ${value}` }];
      if (write.invoked > completed) return [{ key, what: `number ${order} was read before it was written` }];
      return [];
    }
    // Nobody got an answer for this number: it must be a write whose outcome nobody knows.
    const possible = writes.some(
      (it) =>
        it.order === undefined &&
        it.outcome.kind === "unknown" &&
        (it.value === undefined || it.value === value) &&
        it.invoked <= completed,
    );
    return possible ? [] : [{ key, what: `number ${order} was read as ${value}, which nobody wrote` }];
  });
}

/** What is over before something else begins comes before it. */
function checkRealTime(key: string, operations: readonly Operation[]): Violation[] {
  const numbered = operations.flatMap((it) =>
    it.order !== undefined && (it.kind === "read" || it.outcome.kind === "ok") ? [{ ...it, order: it.order }] : [],
  );
  const byEnd = numbered.toSorted((a, b) => a.completed - b.completed);
  const byStart = numbered.toSorted((a, b) => a.invoked - b.invoked);
  const violations: Violation[] = [];
  let ended = 0;
  let highest: bigint | undefined;
  for (const next of byStart) {
    for (; ended < byEnd.length && (byEnd[ended] as (typeof byEnd)[number]).completed < next.invoked; ended++) {
      const { order } = byEnd[ended] as (typeof byEnd)[number];
      if (highest === undefined || order > highest) highest = order;
    }
    if (highest === undefined) continue;
    const isBehind = next.kind === "write" ? next.order <= highest : next.order < highest;
    if (isBehind) {
      violations.push({
        key,
        what: `a ${next.kind} of number ${next.order} began after number ${highest} was answered`,
      });
    }
  }
  return violations;
}
