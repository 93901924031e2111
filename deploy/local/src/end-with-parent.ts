import { closeSync, openSync } from "node:fs";
import { Socket } from "node:net";
import { devNull } from "node:os";

/**
 * Loaded into a service before its own code (`--import`): when the process that started it is gone, killed included, the
 * service drains and ends as if it had been asked. Else it would go on without anybody who knows of it, on a port that the
 * next start needs.
 */

/** The end of a pipe that the parent holds open for as long as it lives and never writes to. */
const PARENT = 3;

const STANDARD_OUTPUT = 1;

const parent = new Socket({ fd: PARENT, readable: true, writable: false });
// It keeps nothing running by itself.
parent.unref();
parent.resume();
parent.once("close", () => {
  discardOutput();
  process.kill(process.pid, "SIGTERM");
});
// A reset says the same as an end; "close" follows.
parent.on("error", () => {});

/**
 * Nobody reads the log any more. At the exit the logger would write its last lines again and again to a pipe that refuses
 * them, and the process would never end.
 */
function discardOutput(): void {
  closeSync(STANDARD_OUTPUT);
  // The lowest number that is free is taken: the one just closed, as the standard input is open.
  openSync(devNull, "w");
}
