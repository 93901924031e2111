import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CheckpointContents } from "./checkpoint-mutations.ts";

/** A directory that takes the contents of one checkpoint after the other, writing only what differs. */
export class CheckpointDirectory {
  readonly path: string;
  #contents: CheckpointContents = new Map();

  /** @param path - an empty directory; nobody else writes to it */
  constructor(path: string) {
    this.path = path;
  }

  /** Changed files are new files: file systems are slow to cut the contents of old ones. */
  write(contents: CheckpointContents): void {
    for (const [name, bytes] of this.#contents) if (contents.get(name) !== bytes) rmSync(join(this.path, name));
    for (const [name, bytes] of contents) {
      if (this.#contents.get(name) !== bytes) writeFileSync(join(this.path, name), bytes);
    }
    this.#contents = contents;
  }
}
