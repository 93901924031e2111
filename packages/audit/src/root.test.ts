import { expect, test } from "vitest";
import { entryHash, NO_ENTRY } from "./chain.ts";
import { decodeKeySet, encodeKeySet, generateAuditKey, RootVerifier, readPublicKey, readSigningKey } from "./keys.ts";
import { decodeRootBody, encodeRootBody, rootHash } from "./root.ts";
import { decodeRootLine, encodeRootLine } from "./root-file.ts";

const body = {
  number: 7n,
  time: "2026-01-02T03:04:05.006Z",
  merkleRoot: "a".repeat(64),
  leafCount: 4,
  previousRoot: NO_ENTRY,
};

test("an entry's hash is the sha256 of three lines", () => {
  // printf '1\n%s\n{"a":"ü"}' "$(printf '0%.0s' {1..64})" | sha256sum
  expect(entryHash(1n, NO_ENTRY, '{"a":"ü"}')).toBe("04a5295c6e718e7f5f06fa1bee73a921c3bf2049fc75e200c81470fbf15110c9");
});

test("a body has one spelling, and no other is read", () => {
  const text = encodeRootBody(body);
  expect(text).toBe(
    `{"leafCount":4,"merkleRoot":"${"a".repeat(64)}","number":"7","previousRoot":"${NO_ENTRY}","time":"2026-01-02T03:04:05.006Z"}`,
  );
  expect(decodeRootBody(text)).toEqual(body);
  for (const other of [
    text.replace("{", "{ "),
    text.replace('"7"', "7"),
    text.replace('"7"', '"07"'),
    text.replace(":4", ":4.5"),
    text.replace("T03", " 03"),
    text.replace("}", ',"x":1}'),
    text.replace("aaaa", "AAAA"),
    "null",
    "",
  ]) {
    expect(decodeRootBody(other), other).toBeUndefined();
  }
});

test("the key's id is its RFC 7638 thumbprint", () => {
  // The example of RFC 8037, appendix A.
  const key = readPublicKey(
    '{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"sig"}',
  );
  expect(key?.keyId).toBe("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
});

test("a root verifies under its key and under no other, and its key has no private part", () => {
  const key = readSigningKey(generateAuditKey());
  const other = readSigningKey(generateAuditKey());
  const text = encodeRootBody(body);
  const root = { number: 7n, body: text, signature: key.sign(text), keyId: key.keyId };
  const verifier = new RootVerifier();
  expect(verifier.verify(root)).toBe(false);
  verifier.add(key);
  verifier.add(other);
  expect(verifier.verify(root)).toBe(true);
  expect(verifier.verify({ ...root, keyId: other.keyId })).toBe(false);
  expect(verifier.verify({ ...root, body: text.replace('"7"', '"8"') })).toBe(false);
  expect(Object.keys(JSON.parse(key.jwk) as object)).toEqual(["crv", "kty", "x"]);
  expect(() => verifier.add({ keyId: key.keyId, jwk: other.jwk })).toThrow(/thumbprint/);
  expect(() => verifier.add({ keyId: "x", jwk: "{}" })).toThrow(/no public Ed25519 key/);
});

test("a private key is never read as a public one, and other kinds of keys never as either", () => {
  const key = readSigningKey(generateAuditKey());
  expect(readPublicKey(JSON.stringify({ ...JSON.parse(key.jwk), d: "AAAA" }))).toBeUndefined();
  expect(readPublicKey(JSON.stringify({ ...JSON.parse(key.jwk), crv: "X25519" }))).toBeUndefined();
  expect(() => readSigningKey("not a key")).toThrow();
});

test("a line of the file of roots comes back as it was, and damaged lines do not", () => {
  const text = encodeRootBody(body);
  const root = { number: 7n, body: text, signature: Buffer.alloc(64, 3), keyId: "k" };
  const line = encodeRootLine(root);
  expect(decodeRootLine(line)).toEqual({ ...root, content: body });
  for (const damaged of ["", line.slice(0, -2), line.replace('"number":"7"', '"number":"8"'), `${line} `, "[]"]) {
    expect(decodeRootLine(damaged), damaged).toBeUndefined();
  }
  expect(rootHash(text)).toMatch(/^[0-9a-f]{64}$/);
});

test("trusted keys come out of a set as they went in, out of a single key too, and nothing else does", () => {
  const keys = [readSigningKey(generateAuditKey()), readSigningKey(generateAuditKey())].map(({ jwk, keyId }) => ({
    jwk,
    keyId,
  }));
  expect(decodeKeySet(encodeKeySet(keys))).toEqual(keys);
  expect(decodeKeySet(keys[0]?.jwk ?? "")).toEqual(keys.slice(0, 1));
  for (const text of ["", "[]", "{}", "null", '{"keys":[]}', '{"keys":[{"kty":"RSA"}]}', '{"keys":7}']) {
    expect(() => decodeKeySet(text), text).toThrow(/key/i);
  }
});
