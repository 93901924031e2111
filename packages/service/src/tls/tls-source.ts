import { X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { createSecureContext } from "node:tls";
import { ServiceError } from "../errors/service-error.ts";
import type { Logger } from "../log.ts";
import { type DevCertificateOptions, ensureDevCertificate } from "./dev-certificates.ts";

/** What one side of TLS presents and trusts, as PEM. */
export interface TlsMaterial {
  /** Authorities that the other side's certificate must come from. Unset: those of the system, for clients only. */
  readonly ca?: Buffer;
  /** Certificate with its chain, and its key: both or none. */
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** Material that is replaced while it is in use. New connections use what is current; old ones go on as they are. */
export interface TlsSource {
  /** A new object after every change. */
  readonly current: TlsMaterial;
  /** Called after every change until the source is closed. */
  onChange(listener: (material: TlsMaterial) => void): void;
  /** Stop looking for changes. */
  close(): void;
}

export interface TlsFiles {
  readonly caFile?: string;
  readonly certFile?: string;
  readonly keyFile?: string;
}

/** How errors call the files: the options that name them. */
export type TlsFileNames = { readonly [Name in keyof TlsFiles]-?: string };

/**
 * Material from files, read again when one of them changes. Files that became unusable leave the last good material in
 * force, with an error in the log.
 *
 * @throws ServiceError CONFIG_INVALID when the files cannot be used at start
 */
export function openTlsFiles(files: TlsFiles, log: Logger, names: TlsFileNames = OWN_NAMES): Promise<TlsSource> {
  return watch(files, log, names, async () => {});
}

/**
 * Material of the development authority in a folder, for a service of that name: its certificate, which renews itself,
 * and trust in all others of the same authority.
 *
 * @throws ServiceError CONFIG_INVALID
 */
export async function openDevTls(
  dataDir: string,
  service: string,
  log: Logger,
  options: DevCertificateOptions = {},
): Promise<TlsSource> {
  const files = await ensureDevCertificate(dataDir, service, options);
  let checkedAt = performance.now();
  return watch(files, log, OWN_NAMES, async () => {
    if (performance.now() - checkedAt < RENEWAL_CHECK_MS) return;
    checkedAt = performance.now();
    await ensureDevCertificate(dataDir, service, options);
  });
}

/** How long a changed file goes unnoticed. */
const RECHECK_MS = 1_000;

/** Also heals a certificate that someone deleted. */
const RENEWAL_CHECK_MS = 30_000;

const OWN_NAMES: TlsFileNames = { caFile: "caFile", certFile: "certFile", keyFile: "keyFile" };

interface Loaded {
  readonly version: string;
  readonly material: TlsMaterial;
}

async function watch(
  { caFile, certFile, keyFile }: TlsFiles,
  log: Logger,
  names: TlsFileNames,
  prepare: () => Promise<void>,
): Promise<TlsSource> {
  const files = { caFile, certFile, keyFile };
  let { version, material } = await load(files, names);
  const listeners = new Set<(material: TlsMaterial) => void>();
  let isBusy = false;
  let isClosed = false;

  async function refresh(): Promise<void> {
    await prepare();
    const seen = await versionOf(files);
    if (seen === version) return;
    // Whatever comes of this version, it is looked at once: a broken file makes one error, not one a second.
    version = seen;
    const loaded = await load(files, names);
    if (isClosed) return;
    ({ version, material } = loaded);
    log.info({ files }, "TLS files reloaded");
    for (const listener of listeners) listener(material);
  }

  const timer = setInterval(() => {
    if (isBusy) return;
    isBusy = true;
    refresh()
      .catch((error: unknown) => log.error({ err: error, files }, "TLS files not reloaded; the previous stay in force"))
      .finally(() => {
        isBusy = false;
      });
  }, RECHECK_MS);
  timer.unref();

  return {
    get current() {
      return material;
    },
    onChange: (listener) => listeners.add(listener),
    close: () => {
      isClosed = true;
      clearInterval(timer);
      listeners.clear();
    },
  };
}

type Files = { readonly [Name in keyof TlsFiles]-?: string | undefined };

async function load(files: Files, names: TlsFileNames): Promise<Loaded> {
  const version = await versionOf(files);
  const read = async (name: keyof TlsFiles) => {
    const path = files[name];
    if (path === undefined) return undefined;
    return readFile(path).catch((error: unknown) => refuse(names[name], error));
  };
  const [ca, cert, key] = await Promise.all([read("caFile"), read("certFile"), read("keyFile")]);
  try {
    if (cert !== undefined || key !== undefined) createSecureContext({ cert, key });
  } catch (error) {
    return refuse(`${names.certFile}, ${names.keyFile}`, error, "not a usable pair: ");
  }
  try {
    // Text without any certificate would be passed over without a word: then nobody would be trusted.
    if (ca !== undefined) new X509Certificate(ca);
    if (ca !== undefined) createSecureContext({ ca });
  } catch (error) {
    return refuse(names.caFile, error, "not certificates of authorities: ");
  }
  const material = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
  return { version, material };
}

function refuse(name: string, error: unknown, prefix = ""): never {
  throw new ServiceError("CONFIG_INVALID", `${name}: ${prefix}${(error as Error).message}`, { cause: error });
}

/** Also changes when a file is replaced within one tick of the clock; "absent" for a file that is not there. */
async function versionOf(files: Files): Promise<string> {
  const versions = await Promise.all(
    Object.values(files).map(async (path) => {
      if (path === undefined) return "";
      const { ino, mtimeMs, size } = await stat(path).catch(() => ({ ino: "absent", mtimeMs: 0, size: 0 }));
      return `${ino}:${mtimeMs}:${size}`;
    }),
  );
  return versions.join();
}
