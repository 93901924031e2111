import { execFile } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { captureLogs } from "../testing/test-server.ts";
import { ensureDevAuthority, ensureDevCertificate } from "./dev-certificates.ts";
import { serviceIdentityOf } from "./service-identity.ts";
import { openDevTls } from "./tls-source.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-ca-"));
});

afterEach(async () => {
  vi.useRealTimers();
  await rm(folder, { recursive: true });
});

const HOUR = 3600_000;

const read = async (path: string) => new X509Certificate(await readFile(path));

test("the first start makes an authority and a certificate, and later starts use them", async () => {
  const first = await ensureDevCertificate(folder, "inference");
  const [ca, leaf] = [await read(first.caFile), await read(first.certFile)];
  expect([ca.ca, leaf.ca]).toEqual([true, false]);
  expect([leaf.checkIssued(ca), leaf.verify(ca.publicKey)]).toEqual([true, true]);
  expect(leaf.checkPrivateKey(createPrivateKey(await readFile(first.keyFile)))).toBe(true);
  expect([leaf.checkHost("localhost"), leaf.checkIP("127.0.0.1"), leaf.checkIP("::1")]).not.toContain(undefined);
  expect(serviceIdentityOf(leaf.raw, "persona-mesh", Date.now()).service).toBe("inference");
  expect((leaf.validToDate.getTime() - Date.now()) / HOUR).toBeCloseTo(24, 1);
  expect(leaf.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);

  expect(await ensureDevCertificate(folder, "inference")).toEqual(first);
  expect((await read(first.certFile)).serialNumber).toBe(leaf.serialNumber);
  expect(await ensureDevAuthority(folder)).toBe(first.caFile);
});

test("each service has its own certificate, and no name of one hits another file", async () => {
  for (const service of ["ca", "ca-key", "inference"]) {
    const files = await ensureDevCertificate(folder, service);
    expect(serviceIdentityOf((await read(files.certFile)).raw, "persona-mesh", Date.now()).service).toBe(service);
    expect((await read(files.caFile)).ca).toBe(true);
  }
  await expect(ensureDevCertificate(folder, "../evil")).rejects.toMatchObject({ reason: "CONFIG_INVALID" });
});

test("keys are for this user only, the public file has none, and nothing is left behind", async () => {
  const files = await ensureDevCertificate(folder, "inference");
  const mode = async (path: string) => (await stat(path)).mode & 0o777;
  const ca = join(folder, "dev-ca");
  expect((await readdir(ca, { recursive: true })).sort()).toEqual([
    "ca-key.pem",
    "ca.pem",
    "services",
    "services/inference.pem",
  ]);
  expect(await Promise.all([mode(ca), mode(join(ca, "services"))])).toEqual([0o700, 0o700]);
  expect(await Promise.all([mode(files.keyFile), mode(join(ca, "ca-key.pem"))])).toEqual([0o600, 0o600]);
  expect(await readFile(files.caFile, "utf8")).not.toContain("PRIVATE");
});

test("keys that others can read are refused", async () => {
  const { keyFile } = await ensureDevCertificate(folder, "inference");
  await chmod(keyFile, 0o640);
  await expect(ensureDevCertificate(folder, "inference")).rejects.toMatchObject({ reason: "CONFIG_INVALID" });
  await chmod(keyFile, 0o600);
  await chmod(join(folder, "dev-ca", "ca-key.pem"), 0o604);
  await expect(ensureDevCertificate(folder, "inference")).rejects.toThrow("run chmod 600");
});

test("names that are asked for are added, and none is taken away", async () => {
  await ensureDevCertificate(folder, "inference", { hosts: ["worker.local", "10.0.0.1"] });
  const { certFile } = await ensureDevCertificate(folder, "inference", { hosts: ["fd00::1"] });
  const leaf = await read(certFile);
  expect([leaf.checkHost("worker.local"), leaf.checkIP("10.0.0.1"), leaf.checkIP("fd00::1")]).not.toContain(undefined);
  expect(leaf.subjectAltName?.match(/IP Address:0:0:0:0:0:0:0:1/g)).toHaveLength(1);
  await ensureDevCertificate(folder, "inference", { hosts: ["worker.local"] });
  expect((await read(certFile)).serialNumber).toBe(leaf.serialNumber);
});

test("a certificate of another trust domain or authority, or a broken one, is made anew", async () => {
  const { certFile } = await ensureDevCertificate(folder, "inference", { trustDomain: "elsewhere" });
  await ensureDevCertificate(folder, "inference");
  const ours = await readFile(certFile);
  expect(serviceIdentityOf((await read(certFile)).raw, "persona-mesh", Date.now()).service).toBe("inference");

  await writeFile(certFile, "broken");
  await ensureDevCertificate(folder, "inference");
  expect((await read(certFile)).verify((await read(join(folder, "dev-ca/ca.pem"))).publicKey)).toBe(true);

  await writeFile(certFile, ours);
  await rm(join(folder, "dev-ca", "ca-key.pem"));
  const { caFile } = await ensureDevCertificate(folder, "inference");
  expect((await read(certFile)).verify((await read(caFile)).publicKey)).toBe(true);
});

test("processes that start at once agree on one authority, and each gets a certificate of it", async () => {
  const module = new URL("./dev-certificates.ts", import.meta.url).href;
  const start = (service: string) => {
    const script = `import { ensureDevCertificate } from ${JSON.stringify(module)};
      import { readFileSync } from "node:fs";
      const files = await ensureDevCertificate(${JSON.stringify(folder)}, "${service}");
      process.stdout.write(JSON.stringify([files.caFile, files.certFile].map((file) => readFileSync(file, "utf8"))));`;
    return promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
  };
  const services = ["inference", "inference", "inference", "calibrator"];
  const results = await Promise.all(services.map(start));
  const seen = results.map(({ stdout }) => JSON.parse(stdout) as [string, string]);
  expect(new Set(seen.map(([ca]) => ca)).size).toBe(1);
  for (const [ca, pair] of seen) {
    const leaf = new X509Certificate(pair);
    expect(leaf.verify(new X509Certificate(ca).publicKey)).toBe(true);
    expect(leaf.checkPrivateKey(createPrivateKey(pair))).toBe(true);
  }
});

test("a certificate is made anew in the last third of its life, and a running process takes it up", async () => {
  vi.useFakeTimers({ toFake: ["Date", "performance"] });
  const { logs, log } = captureLogs();
  const source = await openDevTls(folder, "inference", log);
  onTestFinished(source.close);
  const before = new X509Certificate(source.current.cert ?? "");
  const { renewAt } = await ensureDevCertificate(folder, "inference");
  expect((renewAt - Date.now()) / HOUR).toBeCloseTo(16, 1);

  vi.advanceTimersByTime(15.9 * HOUR);
  await ensureDevCertificate(folder, "inference");
  expect((await read(join(folder, "dev-ca/services/inference.pem"))).serialNumber).toBe(before.serialNumber);

  vi.advanceTimersByTime(0.2 * HOUR);
  await expect.poll(() => logs.map(({ msg }) => msg), { timeout: 10_000 }).toContain("TLS files reloaded");
  const after = new X509Certificate(source.current.cert ?? "");
  expect(after.serialNumber).not.toBe(before.serialNumber);
  expect((after.validToDate.getTime() - Date.now()) / HOUR).toBeCloseTo(24, 1);
  expect(after.checkPrivateKey(createPrivateKey(source.current.key ?? ""))).toBe(true);
});
