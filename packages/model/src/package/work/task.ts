import {
  type ConvertResult,
  type ConvertTask,
  conversionBytes,
  convertWeight,
  PANEL_ELEMENTS,
} from "./convert-weight.ts";
import { type DigestResult, type DigestTask, digestRange } from "./digest-range.ts";
import { CHUNK_BYTES, OpenFiles } from "./file-access.ts";
import { Scratch } from "./scratch.ts";

/** A piece of work that can be done in any thread: plain data in, plain data out. */
export type Task = ConvertTask | DigestTask;

export type TaskResult<T extends Task> = T extends ConvertTask ? ConvertResult : DigestResult;

/** Bytes that a task reads: what its progress is counted in. */
export function taskBytes(task: Task): number {
  if (task.kind === "digest") return task.byteLength;
  return task.sources.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** Bytes of buffers that a task holds at once. */
export function taskMemory(task: Task): number {
  return task.kind === "digest" ? CHUNK_BYTES : conversionBytes(task);
}

/** Does one task after the other, with files and buffers that serve all of them. */
export class TaskRunner implements AsyncDisposable {
  readonly #files = new OpenFiles();
  readonly #scratch = new Scratch();

  /** @param onBytes - called with the bytes that each step read; what it throws ends the task */
  run(task: Task, onBytes: (bytes: number) => void): Promise<ConvertResult | DigestResult> {
    const tools = { files: this.#files, scratch: this.#scratch };
    return task.kind === "digest"
      ? digestRange(task, tools, onBytes)
      : convertWeight(task, { ...tools, panel: PANEL_ELEMENTS, onBytes });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#files[Symbol.asyncDispose]();
  }
}
