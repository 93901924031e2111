import { type Dirent, type FSWatcher, watch } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { capOf, decodeVector, MAX_VECTOR_FILE_BYTES, toHundredths, versionDigest } from "@persona-mesh/steering";
import { z } from "zod";
import { type LoadedPersona, loadPersona, partsOf, personaName, type ServedModel } from "./loaded-persona.ts";
import { personaFile, RESOURCE_ID } from "./persona-file.ts";

const FILE = "personas.json";

/** A persona file of a thousand personas is a few hundred kilobytes. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/** File systems do not promise events: look again this often. Milliseconds. */
const RESCAN_INTERVAL = 1000;

/** Writers replace several files in a row: wait until they are done. Milliseconds. */
const SETTLE = 10;

/** A folder that never comes to rest is read all the same. Milliseconds. */
const LONGEST_SETTLE = 200;

/** What one tenant has, from one reading of its folder. */
export interface TenantPersonas {
  readonly personas: ReadonlyMap<string, LoadedPersona>;
  readonly active: LoadedPersona | undefined;
  readonly capHundredths: number;
}

export interface PersonaStoreEvents {
  /** A tenant's personas are in force. */
  readonly onLoaded: (tenant: string, personas: TenantPersonas) => void;
  /** A tenant's folder could not be read; what was in force before stays in force. */
  readonly onRefused: (tenant: string, error: unknown) => void;
  /** The folder of all tenants cannot be read; everything stays in force until it can be. */
  readonly onUnreadable: (error: unknown) => void;
}

/**
 * Every tenant's personas, from files, kept up to date while the worker runs.
 *
 * `ROOT/TENANT/personas.json` and the vector files beside it. A change is taken over whole or not at all: one wrong
 * field leaves the tenant's last good set in force and says why. Folders that are gone take their personas with them.
 */
export class PersonaStore implements AsyncDisposable {
  readonly #root: string;
  readonly #model: ServedModel;
  readonly #events: PersonaStoreEvents;
  readonly #tenants = new Map<string, TenantPersonas>();
  /** Sizes and times of a tenant's files at the last reading. */
  readonly #seen = new Map<string, string>();
  #watcher: FSWatcher | undefined;
  /** Of the next look. */
  #timer: NodeJS.Timeout | undefined;
  /** Since when changes wait for that look. */
  #changedAt: number | undefined;
  #scanning: Promise<void> = Promise.resolve();
  #closed = false;
  #isReadable = true;

  /** @param root - folder of the tenants' folders; one that does not exist has no tenants */
  static async open(root: string, model: ServedModel, events: PersonaStoreEvents): Promise<PersonaStore> {
    const store = new PersonaStore(root, model, events);
    await store.rescan();
    store.#watch();
    return store;
  }

  private constructor(root: string, model: ServedModel, events: PersonaStoreEvents) {
    this.#root = root;
    this.#model = model;
    this.#events = events;
  }

  /** The tenant's persona of this resource name; undefined for unknown names and for other tenants' alike. */
  find(tenant: string, name: string): LoadedPersona | undefined {
    return this.#tenants.get(tenant)?.personas.get(name);
  }

  active(tenant: string): LoadedPersona | undefined {
    return this.#tenants.get(tenant)?.active;
  }

  /** By name. */
  list(tenant: string): LoadedPersona[] {
    return [...(this.#tenants.get(tenant)?.personas.values() ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Read what has changed. Readings follow one another. */
  rescan(): Promise<void> {
    this.#scanning = this.#scanning.then(() => this.#scan());
    return this.#scanning;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#watcher?.close();
    clearTimeout(this.#timer);
    await this.#scanning;
  }

  #watch(): void {
    try {
      this.#watcher = watch(this.#root, { recursive: true }, () => this.#changed());
      this.#watcher.on("error", () => this.#watcher?.close());
    } catch {
      // No folder yet, or no more watches to be had: the timer finds changes too, only later.
    }
    this.#schedule(RESCAN_INTERVAL);
  }

  #changed(): void {
    this.#changedAt ??= performance.now();
    const left = this.#changedAt + LONGEST_SETTLE - performance.now();
    this.#schedule(Math.max(0, Math.min(SETTLE, left)));
  }

  #schedule(delay: number): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#changedAt = undefined;
      void this.rescan().finally(() => {
        // A change in the meantime has made an appointment of its own, sooner than this one.
        if (this.#timer === undefined) this.#schedule(RESCAN_INTERVAL);
      });
    }, delay);
    this.#timer.unref();
  }

  async #scan(): Promise<void> {
    const entries = await this.#entries();
    if (entries === undefined) return;
    const tenants = entries.filter((entry) => entry.isDirectory() && RESOURCE_ID.test(entry.name));
    for (const { name: tenant } of tenants) await this.#readTenant(tenant);
    const present = new Set(tenants.map(({ name }) => name));
    for (const tenant of this.#seen.keys()) {
      if (present.has(tenant)) continue;
      this.#seen.delete(tenant);
      this.#tenants.delete(tenant);
    }
  }

  /** @returns undefined where the root is there and cannot be read: nobody's personas are gone then */
  async #entries(): Promise<Dirent[] | undefined> {
    try {
      const entries = await readdir(this.#root, { withFileTypes: true });
      this.#isReadable = true;
      return entries;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      // Once, not at every look.
      if (this.#isReadable) this.#events.onUnreadable(error);
      this.#isReadable = false;
      return undefined;
    }
  }

  async #readTenant(tenant: string): Promise<void> {
    const folder = join(this.#root, tenant);
    try {
      // A new folder is there before its files are.
      if (!this.#tenants.has(tenant) && !(await exists(join(folder, FILE)))) return;
      const fingerprint = await fingerprintOf(folder);
      if (this.#seen.get(tenant) === fingerprint) return;
      this.#seen.set(tenant, fingerprint);
      const personas = await readPersonas(folder, tenant, this.#model);
      // One assignment: a call sees the old set or the new one, never half of each.
      this.#tenants.set(tenant, personas);
      this.#events.onLoaded(tenant, personas);
    } catch (error) {
      this.#events.onRefused(tenant, error);
    }
  }
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Sizes and times of the folder's files: what tells one state of it from another without reading it. */
async function fingerprintOf(folder: string): Promise<string> {
  const names = (await readdir(folder)).sort();
  const stats = await Promise.all(names.map((name) => stat(join(folder, name), { bigint: true })));
  return names.map((name, i) => `${name}:${stats[i]?.size}:${stats[i]?.mtimeNs}:${stats[i]?.ino}`).join("\n");
}

async function readPersonas(folder: string, tenant: string, model: ServedModel): Promise<TenantPersonas> {
  const parsed = personaFile.safeParse(JSON.parse((await readBounded(join(folder, FILE), MAX_FILE_BYTES)).toString()));
  if (!parsed.success) throw new Error(`${tenant}/${FILE}: ${z.prettifyError(parsed.error)}`);
  const file = parsed.data;
  const capHundredths = capOf(file.context, file.alphaCap === undefined ? undefined : toHundredths(file.alphaCap));
  const names = new Set(file.personas.flatMap(({ terms }) => terms.map(({ vector }) => vector)));
  const vectors = new Map<string, { version: ReturnType<typeof decodeVector>; digest: string }>();
  for (const name of names) {
    const bytes = await readBounded(join(folder, name), MAX_VECTOR_FILE_BYTES);
    vectors.set(name, { version: decodeVector(bytes), digest: versionDigest(bytes) });
  }
  const personas = new Map<string, LoadedPersona>();
  for (const definition of file.personas) {
    const context = { tenant, capHundredths, modelChecksum: model.modelChecksum };
    const parts = partsOf(definition, context, (vector) => {
      const read = vectors.get(vector);
      if (read === undefined) throw new Error(`${tenant}/${vector} was not read`);
      return read;
    });
    personas.set(parts.name, loadPersona(parts, model));
  }
  const active = file.active === null ? undefined : personas.get(personaName(tenant, file.active));
  return { personas, active, capHundredths };
}

async function readBounded(path: string, limit: number): Promise<Buffer> {
  const { size } = await stat(path);
  if (size > limit) throw new Error(`${path} has ${size} bytes, the limit is ${limit}`);
  return readFile(path);
}
