import { type FileHandle, open, realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { parseStrictJson } from "./strict-json.ts";

/** Largest JSON file read whole; the largest tokenizer.json in use is about 35 MB. */
const MAX_JSON_BYTES = 100 * 1024 * 1024;

/**
 * The files of one checkpoint directory, by plain name.
 *
 * A name never leaves the directory, also not through a symlink: an import must not be a way to read other files of the
 * machine into a package. The one link out that is followed is that of the Hub's cache, from `snapshots/REVISION` to the
 * `blobs` beside it.
 */
export class CheckpointFiles {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  /** @throws CheckpointError CHECKPOINT_NOT_FOUND when `directory` is not a directory */
  static async open(directory: string): Promise<CheckpointFiles> {
    const resolved = await realpath(directory).catch(() => undefined);
    if (resolved === undefined || !(await stat(resolved)).isDirectory()) {
      throw new CheckpointError("CHECKPOINT_NOT_FOUND", `checkpoint directory "${directory}" does not exist`);
    }
    return new CheckpointFiles(resolved);
  }

  /** Absolute path of the regular file `name`, or undefined when there is none. */
  async find(name: string): Promise<string | undefined> {
    if (name === "" || name.includes("/") || name.includes("\\") || name.includes("\0") || name.startsWith(".")) {
      throw new CheckpointError("CHECKPOINT_UNSAFE_PATH", `file name ${JSON.stringify(name)} is not a plain file name`);
    }
    const path = await realpath(join(this.directory, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw new CheckpointError("CHECKPOINT_NOT_FOUND", `cannot read "${name}": ${error.code}`, { cause: error });
    });
    if (path === undefined) return undefined;
    if (dirname(path) !== this.directory && dirname(path) !== this.#cachedBlobs()) {
      throw new CheckpointError("CHECKPOINT_UNSAFE_PATH", `"${name}" is a link that leads out of the checkpoint`);
    }
    if (!(await stat(path)).isFile()) {
      throw new CheckpointError("CHECKPOINT_UNSAFE_PATH", `"${name}" is not a regular file`);
    }
    return path;
  }

  /** Where the Hub's cache keeps the files, when the directory is one of its snapshots. */
  #cachedBlobs(): string | undefined {
    const snapshots = dirname(this.directory);
    return basename(snapshots) === "snapshots" ? join(dirname(snapshots), "blobs") : undefined;
  }

  /** @throws CheckpointError CHECKPOINT_NOT_FOUND when there is no such file */
  async require(name: string): Promise<string> {
    const path = await this.find(name);
    if (path === undefined) throw new CheckpointError("CHECKPOINT_NOT_FOUND", `the checkpoint has no "${name}"`);
    return path;
  }

  async openRequired(name: string): Promise<FileHandle> {
    return open(await this.require(name), "r");
  }

  /** Text of a small file, or undefined when there is none. */
  async readText(name: string): Promise<string | undefined> {
    const path = await this.find(name);
    if (path === undefined) return undefined;
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      if (size > MAX_JSON_BYTES) {
        throw invalid(name, `has ${size} bytes, over the limit of ${MAX_JSON_BYTES}`);
      }
      return new TextDecoder("utf-8", { fatal: true }).decode(await file.readFile());
    } catch (error) {
      if (error instanceof TypeError) throw invalid(name, "is not UTF-8");
      throw error;
    } finally {
      await file.close();
    }
  }

  /** A JSON object, or undefined when there is no such file. */
  async readObject(name: string): Promise<Record<string, unknown> | undefined> {
    const text = await this.readText(name);
    return text === undefined ? undefined : parseObject(name, text);
  }
}

/**
 * @param name - where the text came from, for the message
 * @throws CheckpointError CHECKPOINT_CONFIG_INVALID when `text` is not one JSON object
 */
export function parseObject(name: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseStrictJson(text);
  } catch (error) {
    throw invalid(name, `is not valid JSON: ${(error as Error).message}`, error);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(name, "is not a JSON object");
  return value as Record<string, unknown>;
}

function invalid(name: string, what: string, cause?: unknown): CheckpointError {
  return new CheckpointError("CHECKPOINT_CONFIG_INVALID", `"${name}" ${what}`, { cause });
}
