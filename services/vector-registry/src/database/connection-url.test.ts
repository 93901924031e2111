import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseDatabaseUrl } from "./connection-url.ts";

test("off this machine TLS verifies certificate and name; on it none is needed", () => {
  const tls = { rejectUnauthorized: true, minVersion: "TLSv1.2", checkServerIdentity: expect.any(Function) };
  const cases: [string, unknown][] = [
    ["postgresql://u:p@db.example/persona", tls],
    ["postgres://u:p@10.1.2.3:6432/persona", tls],
    ["postgresql://u:p@db.example/persona?sslmode=verify-full", tls],
    ["postgresql://u:p@localhost/persona", false],
    ["postgresql://u:p@127.0.0.1/persona", false],
    ["postgresql://u:p@[::1]:5433/persona", false],
    ["postgresql://u:p@localhost/persona?host=/run/pg", false],
    ["postgresql://u:p@localhost/persona?sslmode=verify-full", tls],
  ];
  for (const [url, ssl] of cases) expect(parseDatabaseUrl(url).connection.ssl, url).toEqual(ssl);
});

test("names, ports and sockets are read as libpq writes them", () => {
  expect(parseDatabaseUrl("postgresql://a%40b:p%2Fw@[::1]:5433/my%20db").connection).toEqual({
    host: "::1",
    port: 5433,
    user: "a@b",
    password: "p/w",
    database: "my db",
    ssl: false,
  });
  expect(parseDatabaseUrl("postgresql://u@localhost/d?host=%2Frun%2Fa%20b").connection).toEqual({
    host: "/run/a b",
    port: 5432,
    user: "u",
    database: "d",
    ssl: false,
  });
});

test("what is shown holds no credentials", () => {
  expect(parseDatabaseUrl("postgresql://alice:s3cret@db.example/persona").shown).toBe("persona at db.example:5432");
  expect(parseDatabaseUrl("postgresql://alice:s3cret@x/persona?host=/run/pg").shown).toBe(
    "persona at the socket in /run/pg",
  );
});

test.each([
  ["not a url"],
  ["mysql://u:s3cret@h/d"],
  ["postgresql://u:s3cret@h/"],
  ["postgresql:///d"],
  ["postgresql://u:s3cret%zz@h/d"],
  ["postgresql://u:s3cret@h/d?sslmode=require"],
  ["postgresql://u:s3cret@h/d?sslmode=prefer"],
  ["postgresql://u:s3cret@h/d?sslmode=no-verify"],
  ["postgresql://u:s3cret@h/d?sslmode=disable"],
  ["postgresql://u:s3cret@127.0.0.1.example/d?sslmode=disable"],
  ["postgresql://u:s3cret@h/d?sslmode=verify-full&sslmode=disable"],
  ["postgresql://u:s3cret@h/d?options=-c%20role%3Dpostgres"],
  ["postgresql://u:s3cret@h/d?user=postgres"],
  ["postgresql://u:s3cret@h/d?sslrootcert=/no/such/file"],
  ["postgresql://u:s3cret@localhost/d?sslmode=disable&sslrootcert=/etc/hosts"],
])("%s is refused, and the refusal does not quote it", (url) => {
  expect(() => parseDatabaseUrl(url)).toThrow(
    expect.objectContaining({ reason: "CONFIG_INVALID", message: expect.not.stringContaining("s3cret") }),
  );
});

test("plain text to another machine takes an explicit word", () => {
  const url = "postgresql://u:p@db.example/persona?sslmode=disable";
  expect(parseDatabaseUrl(url, { allowPlainText: true }).connection.ssl).toBe(false);
  // The word allows it; it does not ask for it.
  expect(parseDatabaseUrl("postgresql://u:p@db.example/d", { allowPlainText: true }).connection.ssl).toBeTruthy();
});

test("certificates come from the files that the URL names, also for this machine", () => {
  const folder = mkdtempSync(join(tmpdir(), "persona-url-"));
  try {
    for (const name of ["ca", "cert", "key"]) writeFileSync(join(folder, name), name.toUpperCase());
    const files = `sslrootcert=${folder}/ca&sslcert=${folder}/cert&sslkey=${folder}/key`;
    expect(parseDatabaseUrl(`postgresql://u:p@localhost/d?${files}`).connection.ssl).toEqual({
      ca: "CA",
      cert: "CERT",
      key: "KEY",
      rejectUnauthorized: true,
      minVersion: "TLSv1.2",
      checkServerIdentity: expect.any(Function),
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
