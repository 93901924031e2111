import { expect, test } from "vitest";
import { coherenceBaseline } from "./coherence-baseline.ts";
import { guardBand } from "./guard-band.ts";
import {
  baselineSample,
  decodeGuardBaseline,
  encodeGuardBaseline,
  type GuardBaseline,
  MAX_BASELINE_REPLY_TOKENS,
  sampleFor,
} from "./guard-baseline.ts";
import { DEFAULT_GUARD_POLICY } from "./guard-policy.ts";
import type { Reply } from "./reply.ts";
import { naturalReplies } from "./testing/guard-replies.ts";
import { reasonOf } from "./testing/support.ts";

const REPLIES: Reply[] = naturalReplies(40, 1).map(({ tokens, entropies }) => ({
  tokenIds: Array.from(tokens, (token) => 70_000 + token),
  entropies,
  logProbs: Array.from(entropies, (entropy) => -entropy),
}));

const baseline = (temperature = 0.6): GuardBaseline => ({
  modelChecksum: "ab".repeat(32),
  graphDigest: "01".repeat(32),
  samples: [baselineSample(REPLIES, { temperature, maxTokens: 60 })],
});

test("a file holds what the band and the score are made from", () => {
  const made = baseline();
  const read = decodeGuardBaseline(encodeGuardBaseline(made));
  expect(read).toEqual(made);
  expect(read.samples[0]?.coherence).toEqual(coherenceBaseline(REPLIES));
  const exact = guardBand(naturalReplies(40, 1), DEFAULT_GUARD_POLICY);
  const band = guardBand(read.samples[0]?.replies ?? [], DEFAULT_GUARD_POLICY);
  expect(band.repetition).toBe(exact.repetition);
  for (const field of ["meanEntropy", "low", "high"] as const) expect(band[field]).toBeCloseTo(exact[field], 1);
});

test("no token can be told from it, only which ones are the same", () => {
  const made = {
    ...REPLIES[0],
    tokenIds: [70_005, 3, 70_005, 9, 3, 3],
    entropies: new Array(6).fill(1),
    logProbs: new Array(6).fill(-1),
  };
  const { replies } = baselineSample([made, ...REPLIES], { temperature: 1, maxTokens: 9 });
  expect(replies[0]?.tokens).toEqual([0, 1, 0, 2, 1, 1]);
});

test("of long replies the beginning is kept, and of large entropies what two digits say", () => {
  const tokens = 2000;
  const long = {
    tokenIds: Array.from({ length: tokens }, (_, i) => i),
    entropies: new Array(tokens).fill(99),
    logProbs: new Array(tokens).fill(-1),
  };
  const made = { ...baseline(), samples: [baselineSample([long, ...REPLIES], { temperature: 1, maxTokens: 2000 })] };
  const reply = decodeGuardBaseline(encodeGuardBaseline(made)).samples[0]?.replies[0];
  expect(reply?.tokens).toHaveLength(MAX_BASELINE_REPLY_TOKENS);
  expect(reply?.entropies[0]).toBe(12.95);
});

test("a request is compared with the sample of the nearest temperature", () => {
  const two = { ...baseline(), samples: [...baseline(0.6).samples, ...baseline(1).samples] };
  expect([0, 0.6, 0.79, 0.81, 3].map((t) => sampleFor(two, t).temperature)).toEqual([0.6, 0.6, 0.6, 1, 1]);
});

test.each<[string, (file: Record<string, unknown> & { samples: Record<string, unknown>[] }) => unknown]>([
  ["another format", (file) => ({ ...file, format: "x" })],
  ["a later version", (file) => ({ ...file, formatVersion: 2 })],
  ["a field more", (file) => ({ ...file, more: 1 })],
  ["a checksum that is none", (file) => ({ ...file, modelChecksum: "ab" })],
  ["no samples", (file) => ({ ...file, samples: [] })],
  ["more samples than there may be", (file) => ({ ...file, samples: new Array(9).fill(file.samples[0]) })],
  ["a temperature that is none", (file) => ({ ...file, samples: [{ ...file.samples[0], temperature: -1 }] })],
  ["no score", (file) => ({ ...file, samples: [{ ...file.samples[0], coherence: null }] })],
  ["half a score", (file) => ({ ...file, samples: [{ ...file.samples[0], coherence: { meanEntropy: 1 } }] })],
  ["a reply of other digits", (file) => ({ ...file, samples: [{ ...file.samples[0], replies: [["0A", "00"]] }] })],
  ["a reply cut short", (file) => ({ ...file, samples: [{ ...file.samples[0], replies: [["0001", "00"]] }] })],
  ["half a digit", (file) => ({ ...file, samples: [{ ...file.samples[0], replies: [["000", "000"]] }] })],
  ["an empty reply", (file) => ({ ...file, samples: [{ ...file.samples[0], replies: [["", ""]] }] })],
  [
    "an endless reply",
    (file) => ({ ...file, samples: [{ ...file.samples[0], replies: [["00".repeat(1025), "00".repeat(1025)]] }] }),
  ],
  ["a list", () => []],
])("a file with %s is refused", (_, change) => {
  const file = JSON.parse(encodeGuardBaseline(baseline()));
  expect(reasonOf(() => decodeGuardBaseline(JSON.stringify(change(file))))).toBe("BASELINE_INVALID");
});

test("what is not JSON, or too long to be looked at, is refused", () => {
  expect(reasonOf(() => decodeGuardBaseline("{"))).toBe("BASELINE_INVALID");
  expect(reasonOf(() => decodeGuardBaseline(" ".repeat((16 << 20) + 1)))).toBe("BASELINE_INVALID");
});
