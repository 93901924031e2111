import type { Dirent } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { FolderWatch } from "./folder-watch.ts";
import type { LoadedPersona, ServedModel } from "./loaded-persona.ts";
import { ALWAYS_SERVED, type PersonaCatalog, type Standing } from "./persona-catalog.ts";
import { RESOURCE_ID } from "./persona-file.ts";
import { DEFAULT_SERVING, type ServingPolicy } from "./serving-policy.ts";
import { TenantFolder, type TenantPersonas } from "./tenant-folder.ts";

/** File systems do not promise events: look again this often. Milliseconds. */
const RESCAN_INTERVAL = 1000;

/** Writers replace several files in a row: wait until they are done. Milliseconds. */
const SETTLE = 10;

/** A folder that never comes to rest is read all the same. Milliseconds. */
const LONGEST_SETTLE = 200;

const NO_PERSONAS: TenantPersonas = {
  personas: new Map(),
  active: undefined,
  capHundredths: 0,
  serving: DEFAULT_SERVING,
};

export interface PersonaStoreEvents {
  /** A tenant's personas are in force; none are when its folder is gone. */
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
export class PersonaStore implements PersonaCatalog, AsyncDisposable {
  readonly #root: string;
  readonly #model: ServedModel;
  readonly #events: PersonaStoreEvents;
  readonly #tenants = new Map<string, TenantPersonas>();
  /** By tenant. */
  readonly #folders = new Map<string, TenantFolder>();
  readonly #watch = new FolderWatch(() => this.#changed());
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
    store.#schedule(RESCAN_INTERVAL);
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

  followed(tenant: string): LoadedPersona | undefined {
    return this.active(tenant);
  }

  serving(tenant: string): ServingPolicy {
    return this.#tenants.get(tenant)?.serving ?? DEFAULT_SERVING;
  }

  /** A change of the folder is for the calls after it. */
  standing(): Standing {
    return ALWAYS_SERVED;
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
    this.#watch[Symbol.dispose]();
    clearTimeout(this.#timer);
    await this.#scanning;
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
    await this.#watch.follow([this.#root, ...tenants.map(({ name }) => join(this.#root, name))]);
    for (const { name } of tenants) await this.#readTenant(name);
    const present = new Set(tenants.map(({ name }) => name));
    for (const tenant of this.#folders.keys()) if (!present.has(tenant)) this.#forget(tenant);
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
    const folder = this.#folders.get(tenant) ?? new TenantFolder(join(this.#root, tenant), tenant);
    this.#folders.set(tenant, folder);
    try {
      if (!this.#tenants.has(tenant) && !(await folder.hasPersonas())) return;
      const personas = await folder.readChanges(this.#model);
      if (personas === undefined) return;
      // One assignment: a call sees the old set or the new one, never half of each.
      this.#tenants.set(tenant, personas);
      this.#events.onLoaded(tenant, personas);
    } catch (error) {
      this.#events.onRefused(tenant, error);
    }
  }

  #forget(tenant: string): void {
    this.#folders.delete(tenant);
    if (this.#tenants.delete(tenant)) this.#events.onLoaded(tenant, NO_PERSONAS);
  }
}
