import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";

/**
 * What PostgreSQL stores of a password (RFC 5803): sent instead of the password itself, so that no statement, log or
 * statistics view of the server ever has it.
 *
 * @param password - ASCII: other characters would need SASLprep
 */
export function scramVerifier(password: string, salt = randomBytes(16), iterations = 4096): string {
  const salted = pbkdf2Sync(password, salt, iterations, 32, "sha256");
  const clientKey = createHmac("sha256", salted).update("Client Key").digest();
  const storedKey = createHash("sha256").update(clientKey).digest("base64");
  const serverKey = createHmac("sha256", salted).update("Server Key").digest("base64");
  return `SCRAM-SHA-256$${iterations}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
}
