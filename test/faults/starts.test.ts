import { cp, mkdtemp, readFile, rm, truncate, unlink, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { starterPackage } from "../support/starter-package.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { openTestWorker } from "../support/test-worker.ts";
import { spawnWorker } from "../support/worker-process.ts";

let shared: string;
let model: string;

beforeAll(async () => {
  shared = await mkdtemp(join(tmpdir(), "persona-starts-"));
  model = await starterPackage(join(shared, "model"));
});

afterAll(() => rm(shared, { recursive: true, force: true }));

/** A copy of the package to break. */
async function copyOfModel(): Promise<string> {
  const folder = join(await temporaryFolder(), "model");
  await cp(model, folder, { recursive: true });
  return folder;
}

async function flipByte(path: string): Promise<void> {
  const bytes = await readFile(path);
  const at = bytes.length >> 1;
  bytes[at] = (bytes[at] as number) ^ 1;
  await writeFile(path, bytes);
}

describe("a corrupt model package", () => {
  test("one bit of the weights: the process ends with 4 and names the file and both digests", async () => {
    const broken = await copyOfModel();
    await flipByte(join(broken, "weights.bin"));
    const worker = spawnWorker({ model: broken, "data-dir": await temporaryFolder() });
    expect(await worker.ended).toBe(4);
    const last = worker.log().at(-1);
    expect(last).toMatchObject({ level: "fatal", reason: "MODEL_PACKAGE_CORRUPT" });
    const manifest = JSON.parse(await readFile(join(model, "manifest.json"), "utf8"));
    const message = String(last?.["msg"]);
    expect(message).toContain('"weights.bin"');
    const digests = manifest.weights.map(({ sha256 }: { sha256: string }) => sha256);
    expect(digests.some((digest: string) => message.includes(`the manifest says ${digest}`))).toBe(true);
    expect(message.match(/[0-9a-f]{64}/g)).toHaveLength(2);
    expect(worker.log().filter(({ msg }) => msg === "serving")).toEqual([]);
  });

  test.each<[string, string, (folder: string) => Promise<void>]>([
    ["one bit of the graph", "body.onnx", (folder) => flipByte(join(folder, "body.onnx"))],
    ["one bit of the tokenizer", "tokenizer.json", (folder) => flipByte(join(folder, "tokenizer.json"))],
    ["weights cut off", "weights.bin", (folder) => truncate(join(folder, "weights.bin"), 1000)],
    ["a graph that is gone", "head-top.onnx", (folder) => unlink(join(folder, "head-top.onnx"))],
    [
      "a manifest that claims another model",
      "modelChecksum",
      async (folder) => {
        const path = join(folder, "manifest.json");
        const manifest = JSON.parse(await readFile(path, "utf8"));
        await writeFile(path, JSON.stringify({ ...manifest, modelChecksum: "0".repeat(64) }));
      },
    ],
    ["a manifest cut off", "manifest.json", (folder) => truncate(join(folder, "manifest.json"), 100)],
  ])("%s: refused, naming %s", async (_, name, spoil) => {
    const broken = await copyOfModel();
    await spoil(broken);
    await expect(openTestWorker({ model: broken })).rejects.toMatchObject({
      reason: "MODEL_PACKAGE_CORRUPT",
      message: expect.stringContaining(name),
    });
  });

  test("no package at all is a matter of configuration", async () => {
    const nothing = join(shared, "nothing");
    await expect(openTestWorker({ model: nothing })).rejects.toMatchObject({
      reason: "CONFIG_INVALID",
      message: expect.stringContaining(nothing),
    });
  });
});

describe("a port in use", () => {
  test("of gRPC: the process ends with 3 and names the port", async () => {
    const { port } = await listen();
    const worker = spawnWorker({ model, "data-dir": await temporaryFolder(), "grpc-port": String(port) });
    expect(await worker.ended).toBe(3);
    const last = worker.log().at(-1);
    expect(last).toMatchObject({ level: "fatal", reason: "PORT_IN_USE" });
    expect(last?.["msg"]).toMatch(new RegExp(`^grpcPort: .*:${port}\\b`));
  });

  test("of management: refused as well, and the gRPC port is given back", async () => {
    const free = await listen();
    await free.close();
    const { port: managementPort } = await listen();
    await expect(openTestWorker({ model, grpcPort: free.port, managementPort })).rejects.toMatchObject({
      reason: "PORT_IN_USE",
      message: expect.stringMatching(new RegExp(`^managementPort: .*:${managementPort}\\b`)),
    });
    await listen(free.port);
  });

  /** Take a port, as another process would, until the test ends. */
  async function listen(wanted = 0) {
    const server = createServer();
    const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
    onTestFinished(close);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(wanted, "127.0.0.1", resolve);
    });
    return { port: (server.address() as AddressInfo).port, close };
  }
});
