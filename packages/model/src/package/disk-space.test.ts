import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { asNoSpace, requireSpace } from "./disk-space.ts";

const NO_SPACE = "MODEL_PACKAGE_NO_SPACE";

describe("requireSpace", () => {
  const place = join(tmpdir(), "is", "not", "there");

  it("lets what fits begin, wherever in directories that are not there yet", async () => {
    await expect(requireSpace(place, 0)).resolves.toBeUndefined();
  });

  it("refuses what no disk holds, and says what is needed and what is free", async () => {
    await expect(requireSpace(place, 1e18)).rejects.toMatchObject({
      reason: NO_SPACE,
      message: expect.stringMatching(/needs 10{9}\.\d\d GB, and \d+\.\d\d GB are free/),
    });
  });
});

describe("asNoSpace", () => {
  it.each(["ENOSPC", "EDQUOT"])("takes %s for a full disk", (code) => {
    const cause = Object.assign(new Error("write"), { code });
    expect(asNoSpace(cause)).toMatchObject({ reason: NO_SPACE, cause });
  });

  it("leaves everything else as it is", () => {
    for (const error of [Object.assign(new Error("read"), { code: "EIO" }), new Error("x"), "thrown", undefined]) {
      expect(asNoSpace(error)).toBe(error);
    }
  });
});
