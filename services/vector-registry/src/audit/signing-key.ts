import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { type AuditSigningKey, encodeKeySet, generateAuditKey, readSigningKey } from "@persona-mesh/audit";
import { createPrivate, readPrivate, ServiceError } from "@persona-mesh/service";

/**
 * The key that roots are signed with: PKCS #8 PEM, outside the database, for this user only.
 *
 * @param create - make one where there is none, and beside it `.jwks.json` for verifiers; else it must be there
 * @throws ServiceError CONFIG_INVALID
 */
export async function openSigningKey(file: string, { create }: { readonly create: boolean }): Promise<AuditSigningKey> {
  try {
    let pem = await readPrivate(file);
    if (pem === undefined && create) {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 });
      pem = await createPrivate(file, generateAuditKey());
    }
    if (pem === undefined) throw new Error("there is no such file");
    const key = readSigningKey(pem);
    // The same bytes from every replica that shares the folder.
    if (create) await writeFile(publicKeyFile(file), encodeKeySet([key]));
    return key;
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    const why = (error as Error).message;
    throw new ServiceError("CONFIG_INVALID", `auditKeyFile: no Ed25519 key in ${file}: ${why}`, { cause: error });
  }
}

/** Where the public part of a key that was made here is written: what verifiers keep. */
export function publicKeyFile(file: string): string {
  return `${file.replace(/\.pem$/, "")}.jwks.json`;
}
