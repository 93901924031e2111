import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import koffi, { type LibraryHandle } from "koffi";
import { OnnxRuntimeError } from "./error.ts";

const require = createRequire(import.meta.url);

/** A native address. */
export type Pointer = bigint;

/**
 * Stack of a native call. koffi runs calls on stacks of its own; the runtime's graph optimizer and shape inference
 * recurse deeper than the 128 KiB that an asynchronous call gets by default, and end the process there.
 */
const STACK_BYTES = 8 << 20;

/** Where the pinned `onnxruntime-node` keeps its library, by Node's platform and architecture. */
const LIBRARY_FILE: Partial<Record<NodeJS.Platform, string>> = {
  linux: "libonnxruntime.so.1",
  darwin: "libonnxruntime.1.dylib",
  win32: "onnxruntime.dll",
};

/** Path of the shared library for this machine inside an installed `onnxruntime-node`. */
export function libraryPath(platform = process.platform, arch = process.arch): string {
  const file = LIBRARY_FILE[platform];
  const path = join(dirname(require.resolve("onnxruntime-node")), "..", "bin", "napi-v6", platform, arch, file ?? "");
  if (file === undefined || !existsSync(path)) {
    throw new OnnxRuntimeError(
      "UNSUPPORTED_PLATFORM",
      `onnxruntime-node ships no library for ${platform}/${arch} (looked for ${path}); ` +
        "linux x64 and arm64 with glibc, macOS arm64 and Windows x64 and arm64 are there",
    );
  }
  return path;
}

/**
 * Every library that was loaded, by path. koffi unloads a library once its handle is collected, and does not know of
 * functions that were reached through a table of pointers: they would jump into nothing.
 */
const loaded = new Map<string | null, LibraryHandle>();

/** Load a library with koffi's stacks made large enough; `null` is the process itself with its C library. */
export function loadLibrary(path: string | null): LibraryHandle {
  const known = loaded.get(path);
  if (known !== undefined) return known;
  configureStacks();
  try {
    const library = koffi.load(path);
    loaded.set(path, library);
    return library;
  } catch (cause) {
    throw new OnnxRuntimeError("LIBRARY_NOT_FOUND", `cannot load ${path ?? "the C library"}: ${String(cause)}`, {
      cause,
    });
  }
}

function configureStacks(): void {
  const current = koffi.config();
  if ((current.async_stack_size ?? 0) >= STACK_BYTES && (current.sync_stack_size ?? 0) >= STACK_BYTES) return;
  try {
    koffi.config({ async_stack_size: STACK_BYTES, sync_stack_size: STACK_BYTES });
  } catch (cause) {
    throw new OnnxRuntimeError(
      "LIBRARY_NOT_FOUND",
      "koffi's call stacks are too small and can no longer be changed, because something loaded a native library " +
        "through koffi first; import @persona-mesh/onnx and load a session before that",
      { cause },
    );
  }
}
