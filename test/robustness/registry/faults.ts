import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Replica, Stage } from "./stage.ts";

/** One way to break things, for a while; when it returns nothing is broken any more. */
export interface Fault {
  readonly name: string;
  /** How many processes it ends by kill -9. */
  readonly kills: number;
  /** Never beside another: PostgreSQL does not start on a full disk. */
  readonly isAlone?: boolean;
  inflict(): Promise<void>;
}

/** How long connections stand still or are slow. Milliseconds. */
const FOR_A_WHILE = 1_500;

/** Added to each way of every connection. Milliseconds. */
const DELAY = 120;

/** How long writes find no room. Milliseconds. */
const FULL_FOR = 2_000;

/** @param disk - folder on a small file system, where a full disk can be had; undefined where there is none */
export function faultsOf(stage: Stage, disk: string | undefined): Fault[] {
  const [first, second] = stage.replicas as [Replica, Replica];
  const during = async (begin: () => void, end: () => void) => {
    begin();
    await sleep(FOR_A_WHILE);
    end();
  };
  const proxies = { "the clients of one replica": first.proxy, "the database": stage.databaseProxy };
  return [
    { name: "kill -9 of one replica", kills: 1, inflict: () => stage.killReplica(first.index) },
    { name: "kill -9 of the other replica", kills: 1, inflict: () => stage.killReplica(second.index) },
    { name: "kill -9 of PostgreSQL", kills: 1, inflict: () => stage.killPostgres() },
    ...Object.entries(proxies).flatMap(([whose, proxy]): Fault[] => [
      { name: `cut connections of ${whose}`, kills: 0, inflict: async () => proxy.cut() },
      {
        name: `slow connections of ${whose}`,
        kills: 0,
        inflict: () =>
          during(
            () => proxy.delay(DELAY),
            () => proxy.delay(0),
          ),
      },
      {
        name: `half-open connections of ${whose}`,
        kills: 0,
        inflict: () =>
          during(
            () => proxy.halfOpen(true),
            () => proxy.halfOpen(false),
          ),
      },
    ]),
    ...(disk === undefined
      ? []
      : [{ name: "a full disk under the database", kills: 0, isAlone: true, inflict: () => fillDisk(disk) }]),
  ];
}

/** Leave no byte on the file system for a while. */
async function fillDisk(folder: string): Promise<void> {
  const ballast = join(folder, "ballast");
  try {
    const file = await open(ballast, "w");
    try {
      // What is written until there is no more room stays.
      for (;;) await file.writeFile(CHUNK);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    } finally {
      await file.close();
    }
    await sleep(FULL_FOR);
  } finally {
    await rm(ballast, { force: true });
  }
}

/** Of zeros, to fill the disk with. */
const CHUNK = Buffer.alloc(4 << 20);
