import { join } from "node:path";
import type { LocalMesh } from "./mesh.ts";

export interface GreetingOptions {
  readonly dataDir: string;
  /** Whether the command line finds the folder by itself. */
  readonly isDefaultDir: boolean;
}

/** What somebody who has just started the mesh wants to know. */
export function greeting(
  { registry, workers }: Pick<LocalMesh, "registry" | "workers">,
  options: GreetingOptions,
): string {
  const { dataDir, isDefaultDir } = options;
  const persona = `npm run --silent persona --${isDefaultDir ? "" : ` --data-dir ${dataDir}`}`;
  const worker = workers[0]?.address ?? "";
  const ca = join(dataDir, "dev-ca", "ca.pem");
  return `
The mesh is up.

  registry  ${registry.address}   health http://127.0.0.1:${registry.managementPort}/readyz
${workers.map(({ name, address, managementPort }) => `  ${name.padEnd(9)} ${address}   health http://127.0.0.1:${managementPort}/readyz`).join("\n")}

Text, from another terminal:
  ${persona} generate "Where is my parcel?"

A tenant with a persona (docs/registry.md has the whole way, with approval):
  ${persona} tenant create acme
  ${persona} vector create cheerful --tenant acme
  ${persona} --help

With grpcurl (reflection is on in development):
  TOKEN=$(${persona} token dev --tenant acme --role operator)
  grpcurl -cacert ${ca} -H "authorization: Bearer $TOKEN" \\
    -d '{"prompt":{"text":"Where is my parcel?"},"persona":{"unsteered":{}}}' \\
    ${worker} persona.inference.v1.InferenceService/Generate

Logs are in ${join(dataDir, "logs")}. Ctrl-C stops everything.

`;
}
