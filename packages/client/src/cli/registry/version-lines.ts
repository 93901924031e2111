import { ApprovalStateSchema, type Version, VersionStateSchema } from "@persona-mesh/protocol/registry";
import { enumName } from "../enum-name.ts";
import { formatBytes } from "../progress.ts";
import { hundredths, shortName, time } from "./cells.ts";
import { fields } from "./output.ts";

/** Everything about a version but its manifest. */
export function versionLines(version: Version): string[] {
  const { provenance, revocation } = version;
  return fields([
    ["version", shortName(version.name)],
    ["digest", version.digest],
    ["size", formatBytes(Number(version.sizeBytes))],
    ["model checksum", version.modelChecksum],
    ["graph digest", version.graphDigest],
    ["layers", `${version.layers.join(",")} of ${version.layerCount}, ${version.site}`],
    ["submitter", version.submitter],
    ["requested by", provenance?.requestedBy ?? ""],
    ["job", provenance?.job ?? ""],
    ["parent", shortName(provenance?.parentVersion ?? "")],
    ["pairs", provenance?.pairsJson ? formatBytes(provenance.pairsJson.length) : ""],
    ["alphas", alphaRange(version)],
    ["figures", figures(version)],
    ["approval", approval(version)],
    ["state", enumName(VersionStateSchema, version.state)],
    ["revoked", revocation === undefined ? "" : `${time(revocation.createTime)} by ${revocation.revokedBy}`],
    ["revoked because", revocation?.reason ?? ""],
    ["created", time(version.createTime)],
  ]);
}

/** "0.00 to 0.40"; empty for a version that nobody evaluated. */
export function alphaRange({ evaluation }: Version): string {
  if (evaluation === undefined) return "";
  return `${hundredths(evaluation.alphaMinHundredths)} to ${hundredths(evaluation.alphaMaxHundredths)}`;
}

/** "APPROVED 2/2". */
export function approval({ approval: summary }: Version): string {
  if (summary === undefined) return "";
  return `${enumName(ApprovalStateSchema, summary.state)} ${summary.approvals}/${summary.required}`;
}

function figures({ evaluation }: Version): string {
  const all = Object.entries(evaluation?.figures ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return all.map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`).join(", ");
}
