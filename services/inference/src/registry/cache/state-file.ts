import { createHash } from "node:crypto";
import { readFile, stat, unlink } from "node:fs/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Change, SnapshotPartSchema } from "@persona-mesh/protocol/registry";
import { changesOf, type Picture, updated } from "../picture.ts";
import { writeWhole } from "./whole-file.ts";

/** Far more than a picture of many thousand personas. */
const MAX_BYTES = 512 * 1024 * 1024;

const MAGIC = Buffer.from("PMSTATE1");
const DIGEST_BYTES = 32;
const COUNT_BYTES = 4;

/** What the file holds. */
export interface StoredState {
  readonly picture: Picture;
  /** Revocations that were known then: a file of fewer has lost some. */
  readonly revocations: number;
}

/**
 * The picture that was last in force, in one file: a mark, the sha256 of the rest, how many revocations were known (uint32,
 * little-endian), the snapshot that gives the picture.
 */
export class StateFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * @returns undefined where there is none
   * @throws Error for a file that is not as it was written
   */
  async read(): Promise<StoredState | undefined> {
    try {
      const { size } = await stat(this.#path);
      if (size > MAX_BYTES) throw new Error(`${size} bytes are over the limit ${MAX_BYTES}`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
    const bytes = await readFile(this.#path);
    const start = MAGIC.length + DIGEST_BYTES;
    const body = bytes.subarray(start);
    const digest = createHash("sha256").update(body).digest();
    if (!bytes.subarray(0, MAGIC.length).equals(MAGIC) || !bytes.subarray(MAGIC.length, start).equals(digest)) {
      throw new Error("the file is damaged");
    }
    const { revision, changes } = fromBinary(SnapshotPartSchema, body.subarray(COUNT_BYTES));
    const { picture } = updated(undefined, { kind: "snapshot", revision, changes });
    return { picture, revocations: body.readUInt32LE() };
  }

  async write({ picture, revocations }: StoredState): Promise<void> {
    const count = Buffer.alloc(COUNT_BYTES);
    count.writeUInt32LE(revocations);
    const body = Buffer.concat([count, ...encoded(picture)]);
    await writeWhole(this.#path, Buffer.concat([MAGIC, createHash("sha256").update(body).digest(), body]));
  }

  async remove(): Promise<void> {
    await unlink(this.#path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
  }
}

/**
 * A snapshot in pieces: messages that follow each other are merged when they are read, and lists get longer. What has not
 * changed since the last time is not encoded again, which would hold up every stream.
 */
function encoded(picture: Picture): Uint8Array[] {
  const last = create(SnapshotPartSchema, { revision: picture.revision, last: true });
  return [...changesOf(picture, encodedChange), toBinary(SnapshotPartSchema, last)];
}

/** By the state that the change brings. */
const known = new WeakMap<object, Uint8Array>();

function encodedChange(state: object, change: () => Change): Uint8Array {
  const bytes = known.get(state) ?? toBinary(SnapshotPartSchema, create(SnapshotPartSchema, { changes: [change()] }));
  known.set(state, bytes);
  return bytes;
}
