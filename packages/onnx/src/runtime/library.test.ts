import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { runtimeVersion, shareThreads } from "./environment.ts";
import { libraryPath } from "./library.ts";
import { Session } from "./session.ts";
import { affineGraph } from "./testing/graphs.ts";
import { privateBytes } from "./testing/memory.ts";

test("the pinned package has a library for this machine and for the others that it names", () => {
  expect(existsSync(libraryPath())).toBe(true);
  expect(libraryPath("linux", "arm64")).toMatch(/linux.arm64.libonnxruntime\.so\.1$/);
  expect(libraryPath("darwin", "arm64")).toMatch(/libonnxruntime\.1\.dylib$/);
});

test("a platform without a library is named in the error", () => {
  expect(() => libraryPath("linux", "s390x")).toThrow(/^UNSUPPORTED_PLATFORM: .*no library for linux\/s390x/);
  expect(() => libraryPath("aix", "ppc64")).toThrow(/^UNSUPPORTED_PLATFORM: .*no library for aix\/ppc64/);
});

test("the library is the version that the package pins", () => {
  expect(runtimeVersion()).toBe("1.30.0");
});

test("the library stays where it is when garbage is collected, before a thread of its own holds it", async () => {
  expect(runtimeVersion()).toBe("1.30.0");
  await privateBytes();
  using session = Session.loadSync(affineGraph(), { intraOpThreads: 1 });
  expect(session.inputs).toHaveLength(1);
});

test("the threads that sessions share are sized before the first session, or not at all", async () => {
  expect(() => shareThreads({ threads: 0.5 })).toThrow(/^INVALID_ARGUMENT: threads is 0.5/);
  expect(() => shareThreads({ threads: 5000 })).toThrow(/^INVALID_ARGUMENT/);
  using session = Session.loadSync(affineGraph());
  expect(session.inputs).toHaveLength(1);
  // As they are is no change.
  shareThreads({});
  expect(() => shareThreads({ threads: 2 })).toThrow(/^BUSY: /);
  expect(() => shareThreads({ spinning: false })).toThrow(/^BUSY: /);
});
