import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { ServiceError } from "../errors/service-error.ts";
import { describeConfig, describeOptions } from "./describe.ts";
import { type ConfigSources, loadConfig } from "./load.ts";
import { environmentName, flagName, option, withDefaults } from "./option.ts";
import { checkServiceConfig, SERVICE_OPTIONS, type ServiceValues } from "./service-options.ts";

const OPTIONS = {
  grpcPort: option(z.int().min(0).max(65535), { default: 7070, doc: "The port." }),
  modelDir: option(z.string().optional(), { default: undefined, doc: "The model package." }),
  isEager: option(z.boolean(), { default: false, doc: "Load at start." }),
  layers: option(z.array(z.int()), { default: [3], doc: "Layers." }),
  drainSeconds: option(z.number(), { default: 25, unit: "s", doc: "Drain." }),
  databaseUrl: option(z.string(), {
    default: "postgres://user:hunter2@db",
    secret: true,
    commonVariable: "DATABASE_URL",
    doc: "Database.",
  }),
};

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "persona-config-"));
});

afterAll(() => rmSync(folder, { recursive: true }));

function write(content: unknown): string {
  const path = join(folder, "config.json");
  writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
  return path;
}

/** The problems of a configuration that is refused, by option. */
function problems(sources: ConfigSources): Record<string, string> {
  try {
    loadConfig(OPTIONS, sources);
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    expect(error.reason).toBe("CONFIG_INVALID");
    return Object.fromEntries(error.fieldViolations.map(({ field, description }) => [field, description]));
  }
  return {};
}

describe("sources", () => {
  test("nothing given: the defaults", () => {
    const { values, origins } = loadConfig(OPTIONS);
    expect(values).toMatchObject({ grpcPort: 7070, modelDir: undefined, isEager: false, layers: [3] });
    expect(new Set(Object.values(origins))).toEqual(new Set(["default"]));
  });

  test("flags win over the environment, that over the file, that over the defaults", () => {
    const file = write({ grpcPort: 1, drainSeconds: 1, modelDir: "from-file" });
    const environment = { PERSONA_CONFIG: file, PERSONA_GRPC_PORT: "2", PERSONA_DRAIN_SECONDS: "2.5", HOME: "/" };
    const { values, origins } = loadConfig(OPTIONS, { environment, args: ["--grpc-port", "3"] });
    expect(values).toMatchObject({ grpcPort: 3, drainSeconds: 2.5, modelDir: "from-file", isEager: false });
    expect(origins).toMatchObject({
      grpcPort: "--grpc-port",
      drainSeconds: "PERSONA_DRAIN_SECONDS",
      modelDir: file,
      isEager: "default",
    });
  });

  test("flags take their value after a space or an equals sign; a flag alone is true", () => {
    const load = (...args: string[]) => loadConfig(OPTIONS, { args }).values;
    expect(load("--grpc-port=3", "--is-eager", "--model-dir", "a=b")).toMatchObject({
      grpcPort: 3,
      isEager: true,
      modelDir: "a=b",
    });
    expect(load("--is-eager=false", "--layers", "[1,2]")).toMatchObject({ isEager: false, layers: [1, 2] });
    expect(load("--config", write({ grpcPort: 9 })).grpcPort).toBe(9);
  });

  test("an option's text stays text, also when it reads like something else", () => {
    expect(loadConfig(OPTIONS, { environment: { PERSONA_MODEL_DIR: "123" } }).values.modelDir).toBe("123");
    expect(loadConfig(OPTIONS, { environment: { PERSONA_MODEL_DIR: "null" } }).values.modelDir).toBe("null");
  });
});

describe("refusals", () => {
  test("names that no option has, each with its source and a near one", () => {
    const found = problems({
      args: ["--grpc-prot", "1", "stray"],
      environment: { PERSONA_GRPC_PROT: "1", PERSONA_TOKEN: "x" },
      foreignEnvironment: ["PERSONA_TOKEN"],
      file: write({ "grpc-port": 1, __proto__: {}, constructor: 1 }),
    });
    expect(found).toEqual({
      "--grpc-prot": "no such option; did you mean --grpc-port?",
      stray: "no such option",
      PERSONA_GRPC_PROT: "no such option; did you mean PERSONA_GRPC_PORT?",
      "grpc-port": `no such option (from ${folder}/config.json); did you mean grpcPort?`,
      constructor: `no such option (from ${folder}/config.json)`,
    });
  });

  test("variables that Kubernetes makes for its Services are left alone", () => {
    const environment = {
      PERSONA_WORKER_SERVICE_HOST: "10.0.0.1",
      PERSONA_WORKER_SERVICE_PORT: "7070",
      PERSONA_WORKER_SERVICE_PORT_GRPC: "7070",
      PERSONA_WORKER_PORT: "tcp://10.0.0.1:7070",
      PERSONA_WORKER_PORT_7070_TCP: "tcp://10.0.0.1:7070",
      PERSONA_WORKER_PORT_7070_TCP_ADDR: "10.0.0.1",
    };
    expect(problems({ environment })).toEqual({});
    expect(problems({ environment: { PERSONA_WORKER_PORT: "7070" } })).not.toEqual({});
  });

  test("wrong values, all of them at once, with where they came from", () => {
    const found = problems({
      args: ["--grpc-port", "70000"],
      environment: { PERSONA_IS_EAGER: "yes", PERSONA_LAYERS: "[1" },
    });
    expect(Object.keys(found).sort()).toEqual(["grpcPort", "isEager", "layers"]);
    expect(found["grpcPort"]).toContain("65535 (from --grpc-port)");
    expect(found["isEager"]).toContain("(from PERSONA_IS_EAGER)");
  });

  test.each(["0x10", "1e9", "", " ", "NaN", "80a", "1.5", "-1", "true"])("the port %j", (text) => {
    expect(problems({ environment: { PERSONA_GRPC_PORT: text } })).toHaveProperty("grpcPort");
  });

  test("a file that is missing, broken or not an object", () => {
    expect(problems({ file: join(folder, "none.json") })["config"]).toContain("ENOENT");
    expect(problems({ file: write("{") })["config"]).toContain("JSON");
    expect(problems({ file: write([]) })["config"]).toContain("not a JSON object");
  });
});

describe("descriptions", () => {
  test("the effective configuration, with origins and without secrets", () => {
    const text = describeConfig(loadConfig(OPTIONS, { environment: { PERSONA_DATABASE_URL: "postgres://a:pw@b" } }));
    expect(text).toMatch(/^grpcPort +7070 +default$/m);
    expect(text).toMatch(/^drainSeconds +25 s +default$/m);
    expect(text).toMatch(/^modelDir +\(unset\) +default$/m);
    expect(text).toMatch(/^databaseUrl +\(secret\) +PERSONA_DATABASE_URL$/m);
    expect(text).not.toContain("pw");
  });

  test("a variable that others know too gives way to every other source, and is shown as the origin", () => {
    const environment = { DATABASE_URL: "postgres://a:pw@common" };
    const common = loadConfig(OPTIONS, { environment });
    expect(common.values.databaseUrl).toBe(environment.DATABASE_URL);
    expect(describeConfig(common)).toMatch(/^databaseUrl +\(secret\) +DATABASE_URL$/m);
    const file = write({ databaseUrl: "postgres://file" });
    expect(loadConfig(OPTIONS, { environment, file }).values.databaseUrl).toBe("postgres://file");
    expect(describeOptions(OPTIONS)).toContain('PERSONA_DATABASE_URL, DATABASE_URL, "databaseUrl"');
  });

  test("every service option says what it does, and its default is valid", () => {
    const help = describeOptions(SERVICE_OPTIONS);
    for (const [name, { doc, schema, default: fallback }] of Object.entries(SERVICE_OPTIONS)) {
      expect(doc, name).toMatch(/^.{20,}\.$/s);
      expect(schema.safeParse(fallback).success, name).toBe(true);
      expect(help).toContain(`  ${flagName(name)}, ${environmentName(name)}, "${name}"\n`);
    }
    expect(help).toContain("default 25 s, 0 to 3600");
    expect(help).toContain("one of development, production");
  });

  test("the default of a secret is not shown either", () => {
    expect(describeOptions(OPTIONS)).not.toContain("hunter2");
  });
});

describe("what must hold between service options", () => {
  const check = (changes: Partial<ServiceValues>) =>
    checkServiceConfig(loadConfig(withDefaults(SERVICE_OPTIONS, { devTls: false, ...changes })).values);

  test("the defaults, and TLS or the explicit choice beyond this machine", () => {
    check({});
    check({ grpcHost: "localhost" });
    check({ grpcHost: "::1" });
    check({ grpcHost: "0.0.0.0", tlsCertFile: "c", tlsKeyFile: "k", tlsClientCaFile: "ca" });
    check({ grpcHost: "0.0.0.0", allowInsecure: true });
    check({ grpcHost: "0.0.0.0", devTls: true });
    check({ devTls: true, tlsClientCertificates: "required" });
    check({ environment: "production", authJwksFile: "jwks.json" });
    for (const authJwksUrl of ["https://issuer.example/jwks", "http://127.0.0.1:8080/jwks", "http://[::1]/jwks"]) {
      check({ environment: "production", authJwksUrl });
    }
  });

  test.each<[Partial<ServiceValues>, string]>([
    [{ grpcHost: "0.0.0.0" }, "grpcHost"],
    [{ grpcHost: "::" }, "grpcHost"],
    [{ grpcHost: "192.168.1.5" }, "grpcHost"],
    [{ grpcHost: "127.evil.example" }, "grpcHost"],
    [{ tlsCertFile: "c" }, "tlsKeyFile"],
    [{ tlsKeyFile: "k" }, "tlsCertFile"],
    [{ tlsClientCaFile: "ca" }, "tlsClientCaFile"],
    [{ tlsCertFile: "c", tlsKeyFile: "k", tlsClientCertificates: "optional" }, "tlsClientCertificates"],
    [{ devTls: true, environment: "production", authJwksFile: "j", grpcHost: "0.0.0.0" }, "grpcHost"],
    [{ environment: "production" }, "authJwksFile"],
    [{ authJwksFile: "jwks.json", authJwksUrl: "https://issuer.example/jwks" }, "authJwksUrl"],
    [{ authJwksUrl: "http://issuer.example/jwks" }, "authJwksUrl"],
    [{ authJwksUrl: "http://127.0.0.1.example/jwks" }, "authJwksUrl"],
    [{ authJwksUrl: "https://user:secret@issuer.example/jwks" }, "authJwksUrl"],
    [{ authJwksUrl: "file:///jwks.json" }, "authJwksUrl"],
    [{ unaryDefaultSeconds: 301 }, "unaryDefaultSeconds"],
    [{ streamMaxSeconds: 1 }, "streamDefaultSeconds"],
  ])("%j is refused for %s", (changes, name) => {
    expect(() => check(changes)).toThrow(new RegExp(`^${name}: `));
  });
});
