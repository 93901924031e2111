import { randomBytes } from "node:crypto";
import { link, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { LocalError } from "../local-error.ts";

/** A file that appears whole or not at all: written beside its place, flushed, then moved there. */
export class NewFile implements AsyncDisposable {
  /** Where the file will be; absolute. */
  readonly path: string;
  readonly #staged: string;
  readonly #overwrite: boolean;

  private constructor(path: string, overwrite: boolean) {
    this.path = path;
    this.#staged = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString("hex")}`);
    this.#overwrite = overwrite;
  }

  /**
   * Make sure that the file can be written, before there is anything to write. Its folder is made where it is missing.
   *
   * @param path - absolute
   * @throws LocalError FILE_EXISTS; the system's error when the folder cannot be written
   */
  static async create(path: string, { overwrite }: { overwrite: boolean }): Promise<NewFile> {
    const info = await stat(path).catch(() => undefined);
    if (info?.isDirectory()) throw new LocalError("FILE_EXISTS", `${path} is a directory`);
    if (info !== undefined && !overwrite) throw alreadyThere(path);
    const file = new NewFile(path, overwrite);
    await mkdir(dirname(path), { recursive: true });
    await (await open(file.#staged, "wx")).close();
    return file;
  }

  /** @throws LocalError FILE_EXISTS when someone else wrote the file meanwhile and it is not to be overwritten */
  async commit(bytes: Uint8Array | AsyncIterable<string>): Promise<void> {
    const handle = await open(this.#staged, "w");
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (this.#overwrite) {
      await rename(this.#staged, this.path);
      return;
    }
    // Unlike rename, link never replaces.
    await link(this.#staged, this.path).catch((error: NodeJS.ErrnoException) => {
      throw error.code === "EEXIST" ? alreadyThere(this.path) : error;
    });
  }

  /** Leaves nothing beside the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#staged, { force: true });
  }
}

function alreadyThere(path: string): LocalError {
  return new LocalError("FILE_EXISTS", `${path} exists; --overwrite replaces it`);
}
