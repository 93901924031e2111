import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { duration } from "./arguments.ts";
import { addCompare } from "./commands/compare.ts";
import { addCompletion } from "./commands/completion.ts";
import { addGenerate } from "./commands/generate.ts";
import { addModelBaseline } from "./commands/model-baseline.ts";
import { addModelImport } from "./commands/model-import.ts";
import { addModelList } from "./commands/model-list.ts";
import { addModelRemove } from "./commands/model-remove.ts";
import { addModelServed } from "./commands/model-served.ts";
import { addModelShow } from "./commands/model-show.ts";
import { addModelVerify } from "./commands/model-verify.ts";
import { addPersonas } from "./commands/personas.ts";
import { addAliasCommands } from "./commands/registry/alias.ts";
import { addApprovalCommands } from "./commands/registry/approval.ts";
import { addAuditCommands } from "./commands/registry/audit.ts";
import { addDistributionCommands } from "./commands/registry/distribution.ts";
import { addRegisteredModelCommands } from "./commands/registry/model.ts";
import { addPersonaCommands } from "./commands/registry/persona.ts";
import { addTenantCommands } from "./commands/registry/tenant.ts";
import { addVectorCommands } from "./commands/registry/vector.ts";
import { addVectorExport, addVectorImport } from "./commands/registry/vector-files.ts";
import { addVersionCommands } from "./commands/registry/version.ts";
import { addTokenDev } from "./commands/token-dev.ts";
import { addVectorExtract } from "./commands/vector-extract.ts";
import { type CliIo, columnsOf } from "./io.ts";

/** Where a worker listens when nobody says otherwise. */
const DEFAULT_ADDRESS = "127.0.0.1:7400";

/** Where a registry listens when nobody says otherwise. */
const DEFAULT_REGISTRY = "127.0.0.1:7300";

/** The tenant of the examples: whose personas are meant, until a token says so. */
const DEFAULT_TENANT = "acme";

/** The whole command line. Parsing throws commander's errors and never ends the process. */
export function buildProgram(io: CliIo): Command {
  const program = new Command("persona")
    .description(
      "Serve, steer and govern personas of one base model: generate, compare, extract, publish, approve, activate.",
    )
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "show help for a command")
    .helpCommand("help [command]", "show help for a command")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      // Errors are printed once, by whoever catches them, as every other error is.
      outputError: () => {},
      getOutHelpWidth: () => columnsOf(io),
      getErrHelpWidth: () => columnsOf(io),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .configureHelp({ showGlobalOptions: true });
  addGlobalOptions(program, io);
  program.addHelpText("after", PROGRAM_EXAMPLES);

  addGenerate(program, io);
  addCompare(program, io);
  addPersonas(program, io);
  const model = program
    .command("model")
    .description(
      "Import a checkpoint, look at models and check them, ask a worker for its model, tell the registry of it",
    );
  addModelImport(model, io);
  addModelList(model, io);
  addModelShow(model, io);
  addModelVerify(model, io);
  addModelRemove(model, io);
  addModelServed(model, io);
  addModelBaseline(model, io);
  addRegisteredModelCommands(model, io);
  const vector = program.command("vector").description("Make steering vectors, and name them in the registry");
  addVectorExtract(vector, io);
  addVectorCommands(vector, io);
  addVectorImport(vector, io);
  addVectorExport(vector, io);
  addVersionCommands(program.command("version").description("Versions of vectors: published for ever"), io);
  addAliasCommands(program.command("alias").description("Names that point at versions"), io);
  addPersonaCommands(program.command("persona").description("Compositions of vectors, and which one is active"), io);
  addApprovalCommands(program.command("approval").description("A second person's word on a version"), io);
  addTenantCommands(program.command("tenant").description("Who owns vectors and personas, and by what policy"), io);
  addDistributionCommands(program.command("distribution").description("Which workers have what"), io);
  addAuditCommands(program.command("audit").description("Who did what: list, export, verify"), io);
  addTokenDev(program.command("token").description("Make access tokens"), io);
  addCompletion(program, io);
  return program;
}

const PROGRAM_EXAMPLES = `
Examples:
  $ persona model import ./Llama-3.2-1B-Instruct --precision int8
  $ persona generate "Where is my parcel?" --persona cheerful
  $ persona compare "Where is my parcel?" --persona cheerful --seed 7
  $ persona vector extract --pairs pairs.json --baseline baseline.json --name cheerful --out cheerful.safetensors
  $ persona persona activate cheerful --tenant acme

Exit codes: 0 done, 2 wrong usage, 3 not allowed, 4 not found, 5 refused, 6 unavailable or too slow, 130 interrupted,
1 anything else. docs/cli.md has the whole table.
`;

/** Options are read from these variables where they are not given; the command line wins. */
function addGlobalOptions(program: Command, io: CliIo): void {
  const env = (option: Option, variable: string) => {
    const value = io.env[variable];
    // commander reads process.env by itself; tests and embedders have another one.
    option.description += ` (env: ${variable})`;
    return value ? option.default(value) : option;
  };
  program
    .optionsGroup("Connection:")
    .addOption(env(new Option("--address <host:port>", "the worker").default(DEFAULT_ADDRESS), "PERSONA_ADDRESS"))
    .addOption(env(new Option("--registry <host:port>", "the registry").default(DEFAULT_REGISTRY), "PERSONA_REGISTRY"))
    .option(
      "--token <jwt>",
      "access token; others on this machine can see it in the list of processes (env: PERSONA_TOKEN)",
    )
    .option("--token-file <file>", "file with the access token")
    .addOption(
      env(
        new Option("--tenant <name>", "whose things; tenant of development tokens").default(DEFAULT_TENANT),
        "PERSONA_TENANT",
      ),
    )
    .addOption(
      env(
        new Option("--data-dir <dir>", "folder with the development keys and authority").default(".persona"),
        "PERSONA_DATA_DIR",
      ),
    )
    .option("--tls", "connect with TLS, trusting the system's authorities")
    .option("--tls-ca <file>", "connect with TLS, trusting these authorities (PEM)")
    .option("--tls-cert <file>", "own certificate for mutual TLS (PEM); with --tls-key")
    .option("--tls-key <file>", "private key of --tls-cert (PEM)")
    .option("--tls-server-name <name>", "name in the server's certificate, where it is not the address")
    .option("--plaintext", "without TLS, also where the data folder has a development authority")
    .addOption(new Option("--timeout <duration>", 'give up after this long, e.g. "30s" or "5m"').argParser(duration))
    .optionsGroup("Output:")
    .option("--json", "one JSON object on stdout; errors as JSON on stderr")
    .option("--no-color", "no colours (env: NO_COLOR)");
}

function packageVersion(): string {
  const file = new URL("../../package.json", import.meta.url);
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
}
