import { expect, test } from "vitest";
import { liveHandles } from "../handle.ts";
import { checkBatchIndependence } from "./batch-independence.ts";
import { checkInPlaceCache } from "./in-place-cache.ts";
import { selfTest } from "./self-test.ts";

test("the runtime keeps what the engine builds on, with one thread and with several, and leaves nothing behind", async () => {
  const before = liveHandles();
  for (const intraOpThreads of [1, 2, 3]) {
    const { version, milliseconds } = await selfTest({ intraOpThreads });
    expect(version).toBe("1.30.0");
    expect(milliseconds).toBeLessThan(2000);
  }
  expect(liveHandles()).toBe(before);
});

test("a cache that is not written in place is seen", async () => {
  await expect(checkInPlaceCache({}, { separatePresent: true })).rejects.toThrow(
    /^SELF_TEST_FAILED: .*does not write its keys and values into the cache in place/,
  );
});

test("a row that is written at another position is seen", async () => {
  for (const lengthError of [-1, 1]) {
    await expect(checkInPlaceCache({}, { lengthError })).rejects.toThrow("SELF_TEST_FAILED");
  }
});

test("a cache that is copied in every step is seen", async () => {
  await expect(checkInPlaceCache({}, { copiedCache: true })).rejects.toThrow(/^SELF_TEST_FAILED: .*probably copied/);
});

test("results that depend on the batch are seen", async () => {
  const config = { "session.disable_prepacking": "1" };
  await expect(checkBatchIndependence({ config })).rejects.toThrow(
    /^SELF_TEST_FAILED: .*row 0 of a batch of 2 differs .* with float32/,
  );
  // Floats against integers: the sums of this level depend on the batch.
  await expect(checkBatchIndependence({}, { bits: 4, block: 32, accuracyLevel: 0 })).rejects.toThrow(
    /^SELF_TEST_FAILED: .* with integers of 4 bits in blocks of 32/,
  );
});
