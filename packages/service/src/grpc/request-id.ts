import { randomBytes } from "node:crypto";
import type { Metadata } from "@grpc/grpc-js";
import { REQUEST_ID_KEY } from "../errors/status.ts";

/** The id under which a call is logged: the caller's own where it is usable, else a new one. */
export function requestIdOf(metadata: Metadata): string {
  const values = metadata.get(REQUEST_ID_KEY);
  const [value] = values;
  return values.length === 1 && typeof value === "string" && VALID.test(value) ? value : newRequestId();
}

/** A ULID: 48 bits of time and 80 random bits in Crockford's base 32, so that ids sort by time. */
export function newRequestId(now = Date.now()): string {
  let time = "";
  for (let rest = now, i = 0; i < 10; i++, rest = Math.floor(rest / 32)) time = ALPHABET.charAt(rest % 32) + time;
  // A byte of randomness per character, of which five bits are used: simpler than packing, and just as random.
  const random = Array.from(randomBytes(16), (byte) => ALPHABET.charAt(byte % 32)).join("");
  return time + random;
}

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** Ids go into logs and headers: short, and nothing that needs escaping. */
const VALID = /^[A-Za-z0-9._:-]{1,64}$/;
