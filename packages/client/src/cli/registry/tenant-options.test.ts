import { create } from "@bufbuild/protobuf";
import { GuardCachePolicy, TenantSchema } from "@persona-mesh/protocol/registry";
import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { tenantLines } from "./tenant-lines.ts";
import { addTenantOptions, namesPolicy, namesQuotas, pathsOf, rolesFor, tenantOf } from "./tenant-options.ts";

function parse(...argv: string[]) {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  addTenantOptions(command);
  return command.parse(argv, { from: "user" }).opts();
}

const GUARD = ["--guard-window", "64", "--guard-band", "0.29", "--guard-step", "0.05", "--guard-repetition", "0.6"];
const REFILL = ["--guard-refill", "512"];

describe("options of a tenant", () => {
  it("of the guard are its fields, in the contract's whole numbers, and an approver's to change", () => {
    const options = parse(
      ...GUARD,
      ...REFILL,
      "--guard-cache",
      "reprefill",
      "--guard-observe-only",
      "--twin-share",
      "0.0107",
    );
    expect(tenantOf(options).policy?.guard).toEqual({
      observeOnly: true,
      windowTokens: 64,
      bandHundredths: 29,
      stepHundredths: 5,
      repetitionHundredths: 60,
      cache: GuardCachePolicy.REPREFILL,
      twinShareBasisPoints: 107,
      refillTokens: 512,
    });
    expect(pathsOf(options).sort()).toEqual([
      "policy.guard.band_hundredths",
      "policy.guard.cache",
      "policy.guard.observe_only",
      "policy.guard.refill_tokens",
      "policy.guard.repetition_hundredths",
      "policy.guard.step_hundredths",
      "policy.guard.twin_share_basis_points",
      "policy.guard.window_tokens",
    ]);
    expect([rolesFor(options), namesPolicy(options), namesQuotas(options)]).toEqual([["approver"], true, false]);
  });

  it("can set what counts as unset: no twins, no limit, no refills, a guard that acts again", () => {
    const options = parse("--twin-share", "0", "--no-guard-observe-only", "--max-running", "0", "--guard-refill", "0");
    expect(pathsOf(options).sort()).toEqual([
      "policy.guard.observe_only",
      "policy.guard.refill_tokens",
      "policy.guard.twin_share_basis_points",
      "quotas.serving.max_running",
    ]);
    expect(tenantOf(options)).toMatchObject({
      policy: { guard: { observeOnly: false, twinShareBasisPoints: 0, refillTokens: 0 } },
      quotas: { serving: { maxRunning: 0 } },
    });
    expect(pathsOf(parse())).toEqual([]);
  });

  it("of serving are quotas, the platform's to change", () => {
    const options = parse("--weight", "300", "--max-running", "4", "--max-waiting", "9", "--tokens-per-minute", "600");
    expect(tenantOf(options).quotas?.serving).toEqual({
      weight: 300,
      maxRunning: 4,
      maxWaiting: 9,
      tokensPerMinute: 600,
    });
    expect([rolesFor(options), namesPolicy(options), namesQuotas(options)]).toEqual([["admin"], false, true]);
  });

  it.each([
    ["--guard-window", "7"],
    ["--guard-window", "257"],
    ["--guard-band", "0.04"],
    ["--guard-band", "0.155"],
    ["--guard-step", "0.81"],
    ["--guard-repetition", "0.29"],
    ["--guard-cache", "drop"],
    ["--guard-refill", "15"],
    ["--guard-refill", "4097"],
    ["--guard-refill", "16.5"],
    ["--guard-refill", "-0"],
    ["--twin-share", "0.00005"],
    ["--twin-share", "1.1"],
    ["--weight", "1001"],
    ["--weight", "0"],
    ["--max-running", "2147483648"],
    ["--alpha-cap", "0.355"],
  ])("%s %s is refused", (...argv) => {
    expect(() => parse(...argv)).toThrow(/invalid/);
  });
});

it("tenant show says what holds in the words of the options", () => {
  const tenant = create(TenantSchema, {
    name: "tenants/acme",
    ...tenantOf(parse(...GUARD, "--twin-share", "0.0107", "--weight", "300", "--tokens-per-minute", "600")),
  });
  const lines = tenantLines(tenant).map((line) => line.replace(/ {2,}/, ": "));
  expect(lines).toEqual(
    expect.arrayContaining([
      "guard: acts",
      "guard window: 64 tokens",
      "guard band: 0.29",
      "guard step: 0.05",
      "guard repetition: 0.60",
      "guard refill: as the cache says",
      "twin share: 0.0107",
      "weight: 300",
      "max running: all slots",
      "max waiting: the worker's default",
      "tokens per minute: 600",
    ]),
  );
  const refilled = create(TenantSchema, { name: "tenants/acme", ...tenantOf(parse(...REFILL)) });
  expect(tenantLines(refilled).map((line) => line.replace(/ {2,}/, ": "))).toContain("guard refill: every 512 tokens");
});
