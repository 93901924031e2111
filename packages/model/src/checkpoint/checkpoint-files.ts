import { realpath, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { openVersioned, readExactly } from "./file-reads.ts";
import { quote } from "./quote.ts";
import { parseStrictJson } from "./strict-json.ts";

/** Largest text file read whole; the largest tokenizer.json in use is about 35 MB. */
const MAX_TEXT_BYTES = 100 * 1024 * 1024;

interface JsonLimits {
  readonly maxBytes: number;
  /** A value takes up to 100 bytes of memory, and more while it is checked. */
  readonly maxValues: number;
}

/** For config.json, which has about 1 MB where it names 20,000 classes. */
const CONFIG_LIMITS: JsonLimits = { maxBytes: 4 * 1024 * 1024, maxValues: 100_000 };

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
    if (resolved === undefined) {
      throw new CheckpointError("CHECKPOINT_NOT_FOUND", `checkpoint directory "${directory}" does not exist`);
    }
    if (!(await stat(resolved)).isDirectory()) {
      throw new CheckpointError(
        "CHECKPOINT_NOT_FOUND",
        `"${directory}" is a file. A checkpoint is a directory, with config.json, tokenizer and weights.`,
      );
    }
    return new CheckpointFiles(resolved);
  }

  /**
   * Absolute path of `name`, links resolved, or undefined when there is no such entry; {@link openVersioned} sees whether it
   * is a file.
   *
   * @throws CheckpointError CHECKPOINT_UNSAFE_PATH when it is not an entry of this directory
   */
  async find(name: string): Promise<string | undefined> {
    if (!isPlainName(name)) {
      throw new CheckpointError("CHECKPOINT_UNSAFE_PATH", `file name ${quote(name)} is not a plain file name`);
    }
    const path = await realpath(join(this.directory, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw new CheckpointError("CHECKPOINT_NOT_FOUND", `cannot read ${quote(name)}: ${error.code}`, { cause: error });
    });
    if (path === undefined) return undefined;
    if (dirname(path) !== this.directory && dirname(path) !== this.#cachedBlobs()) {
      throw new CheckpointError(
        "CHECKPOINT_UNSAFE_PATH",
        `${quote(name)} is a link that leads out of the checkpoint. ` +
          `Make a copy with the files in place of the links, as "cp -rL" does, and import that.`,
      );
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
    if (path === undefined) throw new CheckpointError("CHECKPOINT_NOT_FOUND", `the checkpoint has no ${quote(name)}`);
    return path;
  }

  /**
   * Text of a small file, or undefined when there is none.
   *
   * @throws CheckpointError CHECKPOINT_CONFIG_INVALID when it is over the limit or not UTF-8
   */
  async readText(name: string, maxBytes = MAX_TEXT_BYTES): Promise<string | undefined> {
    const path = await this.find(name);
    if (path === undefined) return undefined;
    const { handle, size } = await openVersioned(path, name);
    try {
      if (size > maxBytes) throw invalid(name, `has ${size} bytes, over the limit of ${maxBytes}`);
      // As many as it had: a file that someone keeps writing to would never end.
      const bytes = new Uint8Array(size);
      await readExactly(handle, bytes, 0, name);
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch (error) {
      if (error instanceof TypeError) throw invalid(name, "is not UTF-8");
      throw error;
    } finally {
      await handle.close();
    }
  }

  /**
   * A JSON object, or undefined when there is no such file.
   *
   * @throws CheckpointError CHECKPOINT_CONFIG_INVALID when it is something else or over a limit
   */
  async readObject(name: string, limits = CONFIG_LIMITS): Promise<Record<string, unknown> | undefined> {
    const text = await this.readText(name, limits.maxBytes);
    return text === undefined ? undefined : parseObject(name, text, limits.maxValues);
  }
}

/** Whether `name` can only be a file of the directory it is looked for in. */
export function isPlainName(name: string): boolean {
  return name !== "" && !name.startsWith(".") && !/[/\\\0]/.test(name);
}

/**
 * @param name - where the text came from, for the message
 * @throws CheckpointError CHECKPOINT_CONFIG_INVALID when `text` is not one JSON object
 */
function parseObject(name: string, text: string, maxValues: number): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseStrictJson(text, maxValues);
  } catch (error) {
    throw invalid(name, `is not valid JSON: ${(error as Error).message}`, error);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(name, "is not a JSON object");
  return value as Record<string, unknown>;
}

function invalid(name: string, what: string, cause?: unknown): CheckpointError {
  return new CheckpointError("CHECKPOINT_CONFIG_INVALID", `${quote(name)} ${what}`, { cause });
}
