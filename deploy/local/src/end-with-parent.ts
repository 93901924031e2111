import { Socket } from "node:net";

/**
 * Loaded into a service before its own code (`--import`): when the process that started it is gone, killed included, the
 * service drains and ends as if it had been asked. Else it would go on without anybody who knows of it, on a port that the
 * next start needs.
 */

/** The end of a pipe that the parent holds open for as long as it lives and never writes to. */
const PARENT = 3;

const parent = new Socket({ fd: PARENT, readable: true, writable: false });
// It keeps nothing running by itself.
parent.unref();
parent.resume();
parent.once("close", () => process.kill(process.pid, "SIGTERM"));
// A reset says the same as an end; "close" follows.
parent.on("error", () => {});
