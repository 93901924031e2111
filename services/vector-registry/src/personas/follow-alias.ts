import type { Mutation } from "../database/transaction.ts";

/** An alias that has just been pointed at another version. */
export interface MovedAlias {
  readonly vector: string;
  readonly alias: string;
  /** What it points at now. */
  readonly digest: string;
}

export async function followAlias(mutation: Mutation, moved: MovedAlias): Promise<string[]> {
  throw new Error(`not reached before ${mutation.actor} can move ${moved.alias}`);
}
