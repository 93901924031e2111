import { createLogger, openDevTls } from "@persona-mesh/service";
import { RegistryPersonas } from "../registry/registry-personas.ts";
import { TEST_MODEL } from "./governed-personas.ts";

// A worker's personas in a process of its own, to be killed by a test. Tells every 5 ms what a call would get.
const [authority = "", address = "", cacheFolder = "", name = ""] = process.argv.slice(2);
const log = createLogger("child", "silent");
const tls = await openDevTls(authority, "inference", log);
const personas = await RegistryPersonas.open(
  { address, tls, trustDomain: "persona-mesh", worker: "worker-1", cacheFolder, cacheBytes: 1_000_000 },
  TEST_MODEL,
  log,
);
setInterval(() => process.stdout.write(`${answer()}\n`), 5);

function answer(): string {
  try {
    return personas.catalog.find("acme", name) === undefined ? "unknown" : "served";
  } catch (error) {
    return (error as { readonly reason: string }).reason;
  }
}
