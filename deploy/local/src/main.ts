import { createWriteStream } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { greeting } from "./greeting.ts";
import { LocalMesh } from "./mesh.ts";
import { noteworthy } from "./noteworthy.ts";

const HELP = `Usage: npm start [-- OPTIONS]

Runs the mesh on this machine: the registry with a PostgreSQL of its own, and a worker with the starter model. Security is
on: a certificate authority and signing keys are made at the first start. Ctrl-C drains and stops all of it.

Options:
  --data-dir DIR         database, keys, caches and logs (default .persona)
  --model MODEL          folder of a model package, or a name of "persona model list" (default the starter model)
  --workers N            workers, each with a copy of the model (default 1, at most 8)
  --registry-port PORT   gRPC port of the registry (default 7300)
  --worker-port PORT     gRPC port of the first worker; each further one takes the port ten above (default 7400)
  --verbose              show every log line, not only warnings and errors
  --help                 show this
`;

const MAX_WORKERS = 8;

/** By convention 128 + the signal's number. */
const KILLED = 130;

const { values } = parseArgs({
  options: {
    "data-dir": { type: "string", default: ".persona" },
    model: { type: "string" },
    workers: { type: "string", default: "1" },
    "registry-port": { type: "string", default: "7300" },
    "worker-port": { type: "string", default: "7400" },
    verbose: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) process.stdout.write(HELP);
else process.exitCode = await main();

async function main(): Promise<number> {
  const workers = wholeNumber("workers", values.workers, 1, MAX_WORKERS);
  const registryPort = wholeNumber("registry-port", values["registry-port"], 0, 65_534);
  const workerPort = wholeNumber("worker-port", values["worker-port"], 0, 65_534 - 10 * MAX_WORKERS);
  if (workers === undefined || registryPort === undefined || workerPort === undefined) return 2;
  const dataDir = resolve(values["data-dir"]);
  const onLine = await logWriter(join(dataDir, "logs"), values.verbose);
  const asked = new Promise<"asked">((settle) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => {
        // A second one does not wait for the drain.
        if (isAsked) process.exit(KILLED);
        isAsked = true;
        process.stderr.write("\nstopping; once more to stop at once\n");
        settle("asked");
      });
    }
  });
  let isAsked = false;
  process.stderr.write("starting the mesh …\n");
  let mesh: LocalMesh;
  try {
    mesh = await LocalMesh.start({
      dataDir,
      workers,
      registryPort,
      workerPort,
      onLine,
      ...(values.model === undefined ? {} : { model: values.model }),
    });
  } catch (error) {
    process.stderr.write(`the mesh does not start: ${(error as Error).message}\n`);
    return 1;
  }
  process.stdout.write(greeting(mesh, { dataDir, isDefaultDir: values["data-dir"] === ".persona" }));
  const ended = await Promise.race([
    asked,
    ...mesh.services.map(({ name, ended: over }) => over.then((code) => ({ name, code }))),
  ]);
  if (ended !== "asked" && !isAsked) {
    process.stderr.write(`${ended.name} ended with ${ended.code}; its log is in ${join(dataDir, "logs")}\n`);
  }
  await mesh.stop();
  process.stderr.write("stopped\n");
  return isAsked ? 0 : 1;
}

function wholeNumber(name: string, text: string, least: number, most: number): number | undefined {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
  process.stderr.write(`--${name} takes a whole number from ${least} to ${most}\n`);
  return undefined;
}

/** Every line goes to a file for each service; what people should see goes to standard error too. */
async function logWriter(folder: string, verbose: boolean): Promise<(service: string, line: string) => void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const files = new Map<string, ReturnType<typeof createWriteStream>>();
  return (service, line) => {
    const file = files.get(service) ?? createWriteStream(join(folder, `${service}.jsonl`), { flags: "a", mode: 0o600 });
    files.set(service, file);
    file.write(`${line}\n`);
    const shown = noteworthy(service, line, verbose);
    if (shown !== undefined) process.stderr.write(`${shown}\n`);
  };
}
