import { constants } from "node:fs";
import { open, realpath, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { setImmediate } from "node:timers/promises";
import { capOf, decodeVector, MAX_VECTOR_FILE_BYTES, toHundredths, versionDigest } from "@persona-mesh/steering";
import { z } from "zod";
import { type LoadedPersona, loadPersona, partsOf, personaName, type ServedModel } from "./loaded-persona.ts";
import { type PersonaFile, personaFile } from "./persona-file.ts";
import type { ServingPolicy } from "./serving-policy.ts";

const FILE = "personas.json";

/** A persona file of a thousand personas is a few hundred kilobytes. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** State of a file that is not there. */
const MISSING = "missing";

/** What one tenant has, from one reading of its folder. */
export interface TenantPersonas {
  readonly personas: ReadonlyMap<string, LoadedPersona>;
  readonly active: LoadedPersona | undefined;
  readonly capHundredths: number;
  readonly serving: ServingPolicy;
}

/** One tenant's folder: `personas.json` and the vector files that it names. Nothing outside it is ever read. */
export class TenantFolder {
  readonly #path: string;
  readonly #tenant: string;
  /** State of each file that the last reading depended on, from just before it was read. */
  readonly #seen = new Map<string, string>();

  constructor(path: string, tenant: string) {
    this.#path = path;
    this.#tenant = tenant;
  }

  /** A new folder is there before its files are. */
  async hasPersonas(): Promise<boolean> {
    return (await this.#stateOf(FILE)) !== MISSING;
  }

  /**
   * Read the folder if a file of the last reading has changed since.
   *
   * @returns undefined where nothing has changed
   * @throws Error saying what is wrong, once for each state of the files
   */
  async readChanges(model: ServedModel): Promise<TenantPersonas | undefined> {
    if (!(await this.#hasChanged())) return undefined;
    this.#seen.clear();
    try {
      return await this.#read(model);
    } catch (error) {
      // The machine's trouble, not the files': they are worth another look though they stay as they are.
      if (isTransient(error)) this.#seen.clear();
      throw error;
    }
  }

  async #read(model: ServedModel): Promise<TenantPersonas> {
    const file = parsePersonaFile(await this.#readFile(FILE, MAX_FILE_BYTES), this.#tenant);
    const vectors = new Map<string, { version: ReturnType<typeof decodeVector>; digest: string }>();
    for (const name of new Set(file.personas.flatMap(({ terms }) => terms.map(({ vector }) => vector)))) {
      const bytes = await this.#readFile(name, MAX_VECTOR_FILE_BYTES);
      vectors.set(name, { version: decodeVector(bytes), digest: versionDigest(bytes) });
    }
    const capHundredths = capOf(file.context, file.alphaCap === undefined ? undefined : toHundredths(file.alphaCap));
    const context = { tenant: this.#tenant, capHundredths, modelChecksum: model.modelChecksum };
    const personas = new Map<string, LoadedPersona>();
    for (const definition of file.personas) {
      const parts = partsOf(definition, context, (vector) => {
        const read = vectors.get(vector);
        if (read === undefined) throw new Error(`${this.#tenant}/${vector} was not read`);
        return read;
      });
      personas.set(parts.name, loadPersona(parts, model));
      // Streams move on between one persona and the next: a thousand of them take seconds to compose.
      await setImmediate();
    }
    const active = file.active === null ? undefined : personas.get(personaName(this.#tenant, file.active));
    return { personas, active, capHundredths, serving: file.serving };
  }

  async #hasChanged(): Promise<boolean> {
    if (this.#seen.size === 0) return true;
    // One after the other: the threads that answer are those that run the model.
    for (const [name, state] of this.#seen) if ((await this.#stateOf(name)) !== state) return true;
    return false;
  }

  /** What tells the states of a file apart without reading it. The time is that of any change, also of permissions. */
  #stateOf(name: string): Promise<string> {
    return stat(join(this.#path, name), { bigint: true }).then(
      ({ size, ctimeNs, ino }) => `${size} ${ctimeNs} ${ino}`,
      () => MISSING,
    );
  }

  async #readFile(name: string, limit: number): Promise<Buffer> {
    // First the state, then the file: what is written in between shows at the next look.
    this.#seen.set(name, await this.#stateOf(name));
    return readInside(this.#path, name, limit);
  }
}

function parsePersonaFile(bytes: Buffer, tenant: string): PersonaFile {
  const parsed = personaFile.safeParse(JSON.parse(bytes.toString()));
  if (!parsed.success) throw new Error(`${tenant}/${FILE}: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/**
 * A file of a folder, whole.
 *
 * @throws Error for a link that leads out of the folder, for what is no file, and for one over the limit
 */
async function readInside(folder: string, name: string, limit: number): Promise<Buffer> {
  const [home, path] = [await realpath(folder), await realpath(join(folder, name))];
  if (!path.startsWith(home + sep)) throw new Error(`${name} leads out of the tenant's folder`);
  // Opening a pipe would wait for a writer, and with it every tenant.
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const stats = await file.stat();
  if (!stats.isFile()) throw new Error(`${name} is not a file`);
  if (stats.size > limit) throw new Error(`${name} has ${stats.size} bytes, the limit is ${limit}`);
  const bytes = Buffer.alloc(stats.size);
  let length = 0;
  while (length < bytes.length) {
    const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return bytes.subarray(0, length);
}

const TRANSIENT: ReadonlySet<unknown> = new Set(["EMFILE", "ENFILE", "ENOMEM", "EAGAIN", "EBUSY", "EIO", "ESTALE"]);

function isTransient(error: unknown): boolean {
  return TRANSIENT.has((error as NodeJS.ErrnoException).code);
}
