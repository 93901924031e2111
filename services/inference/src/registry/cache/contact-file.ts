import { readFile } from "node:fs/promises";
import { writeWhole } from "./whole-file.ts";

/** When the registry was last heard, in milliseconds since the epoch. Behind the truth it is only stricter. */
export class ContactFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** @returns undefined where nothing says: then nobody knows how old the cache is */
  async read(): Promise<number | undefined> {
    const text = await readFile(this.#path, "utf8").catch(() => "");
    const time = /^\d{1,15}\n$/.test(text) ? Number(text) : Number.NaN;
    return Number.isSafeInteger(time) ? time : undefined;
  }

  async write(time: number): Promise<void> {
    await writeWhole(this.#path, Buffer.from(`${Math.floor(time)}\n`));
  }
}
