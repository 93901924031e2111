import type { KyselyPlugin } from "kysely";
import type { DatabasePool } from "../database/connect.ts";
import { Transactor } from "../database/transaction.ts";
import type { Registry } from "../registry.ts";

/** What calls need of a registry, and how many statements they have made with it, without those that begin and end. */
export interface CountedRegistry {
  readonly registry: Registry;
  readonly statements: () => number;
}

export function countStatements({ db }: Pick<DatabasePool, "db">): CountedRegistry {
  let count = 0;
  const counting: KyselyPlugin = {
    transformQuery({ node }) {
      count++;
      return node;
    },
    transformResult: async ({ result }) => result,
  };
  const transactor = new Transactor(db.withPlugin(counting));
  return { registry: { transactor } as Registry, statements: () => count };
}
