import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import type { RevokedVersion } from "../picture.ts";
import { syncFolder, writeWhole } from "./whole-file.ts";

/** About three hundred thousand revocations: more is not a file of ours. */
const MAX_BYTES = 64 * 1024 * 1024;

const LINE = /^([a-z][a-z0-9-]{0,62}) ([0-9a-f]{64}) ([0-9a-f]{8})$/;

/** The revocations of a cache, or that they cannot be read: then nothing of the cache may be served. */
export type ReadRevocations =
  | { readonly kind: "read"; readonly revoked: readonly RevokedVersion[] }
  | { readonly kind: "unreadable"; readonly error: unknown };

/**
 * Every revocation that this worker has ever seen, one a line, only ever added to. Apart from all else in the cache, because
 * it is the one thing that must not be forgotten.
 */
export class RevocationFile {
  readonly #path: string;
  #file: FileHandle | undefined;
  /** An append that failed may have left half a line. */
  #isTorn = false;
  #isDamaged = false;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * A line cut off at the very end was never acknowledged by anyone: the crash that cut it came before.
   *
   * @param least - how many there were once; fewer are not all
   */
  async read(least: number): Promise<ReadRevocations> {
    const read = await this.#read();
    if (read.kind === "unreadable" || read.revoked.length >= least) return read;
    this.#isDamaged = true;
    return { kind: "unreadable", error: new Error(`${read.revoked.length} revocations where there were ${least}`) };
  }

  async #read(): Promise<ReadRevocations> {
    try {
      await using file = await open(this.#path, "r");
      const { size } = await file.stat();
      if (size > MAX_BYTES) throw new Error(`${size} bytes are over the limit ${MAX_BYTES}`);
      const lines = (await file.readFile("utf8")).split("\n");
      this.#isTorn = lines.pop() !== "";
      // Half lines that an append closed are empty after their mark.
      return { kind: "read", revoked: lines.filter((line) => !line.endsWith(TORN)).map(parseLine) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return { kind: "read", revoked: [] };
      this.#isDamaged = true;
      return { kind: "unreadable", error };
    }
  }

  /**
   * Add to the file; they are on the disk when this resolves. Calls must follow one another. A file that could not be read
   * is replaced: the first revocations after it are all that the registry knows.
   */
  async append(revoked: readonly RevokedVersion[]): Promise<void> {
    if (revoked.length === 0 && !this.#isDamaged) return;
    const lines = revoked.map(({ tenant, digest }) => `${tenant} ${digest} ${checksum(tenant, digest)}\n`).join("");
    if (this.#isDamaged) {
      await writeWhole(this.#path, Buffer.from(lines));
      this.#isDamaged = false;
      this.#isTorn = false;
      return;
    }
    if (this.#file === undefined) {
      this.#file = await open(this.#path, "a", 0o600);
      await syncFolder(dirname(this.#path));
    }
    const text = this.#isTorn ? `${TORN}\n${lines}` : lines;
    this.#isTorn = true;
    await this.#file.appendFile(text);
    await this.#file.sync();
    this.#isTorn = false;
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }
}

/** Closes half a line, whatever is in it. */
const TORN = "~";

/** @throws Error for a line that is not one of ours, or not as it was written */
function parseLine(line: string): RevokedVersion {
  const [, tenant = "", digest = "", sum] = LINE.exec(line) ?? [];
  if (sum === undefined || sum !== checksum(tenant, digest)) throw new Error("a line is damaged");
  return { tenant, digest };
}

function checksum(tenant: string, digest: string): string {
  return createHash("sha256").update(`${tenant} ${digest}`).digest("hex").slice(0, 8);
}
