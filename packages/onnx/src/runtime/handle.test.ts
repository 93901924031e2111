import { expect, test } from "vitest";
import { Handle, liveHandles } from "./handle.ts";

test("a handle is freed once, when it is closed and its last user let go, in either order", () => {
  for (const order of ["close first", "release first"]) {
    const before = liveHandles();
    let freed = 0;
    const handle = new Handle("thing", () => freed++);
    handle.retain();
    handle.retain();
    handle.release();
    if (order === "close first") handle.close();
    expect(freed).toBe(0);
    handle.release();
    handle.close();
    handle.close();
    expect(freed).toBe(1);
    expect(liveHandles()).toBe(before);
  }
});

test("a closed handle cannot be retained, also while a user still holds it", () => {
  const handle = new Handle("thing", () => {});
  handle.retain();
  handle.close();
  expect(() => handle.retain()).toThrow("USE_AFTER_CLOSE: the thing is closed");
  handle.release();
});
