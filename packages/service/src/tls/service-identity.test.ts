import { beforeAll, expect, test } from "vitest";
import { INFERENCE_ID, makeTestAuthority, type TestAuthority, type TestLeaf } from "../testing/test-authority.ts";
import { serviceId, serviceIdentityOf, TRUST_DOMAIN } from "./service-identity.ts";

let authority: TestAuthority;

beforeAll(async () => {
  authority = await makeTestAuthority();
});

/** What a certificate of the trusted authority proves. */
async function identify(leaf: TestLeaf, now = Date.now()) {
  return serviceIdentityOf((await authority.issue(leaf)).raw, "persona-mesh", now);
}

test("one SPIFFE id of the trust domain proves a service, and an instance is part of the id only", async () => {
  expect(await identify({})).toEqual({ id: INFERENCE_ID, service: "inference" });
  const id = serviceId("persona-mesh", "vector-registry", "pod-0.a_B");
  expect(id).toBe("spiffe://persona-mesh/ns/persona-mesh/sa/vector-registry/pod-0.a_B");
  expect(await identify({ uris: [id], dns: [] })).toEqual({ id, service: "vector-registry" });
});

test.each([
  "spiffe://elsewhere/ns/persona-mesh/sa/inference",
  "spiffe://persona-mesh.evil/ns/persona-mesh/sa/inference",
  "spiffe://persona-mesh/ns/other/sa/inference",
  "spiffe://persona-mesh/ns/persona-mesh/sa/",
  "spiffe://persona-mesh/ns/persona-mesh/sa/Inference",
  "spiffe://persona-mesh/ns/persona-mesh/sa/inference/",
  "spiffe://persona-mesh/ns/persona-mesh/sa/inference/..",
  "spiffe://persona-mesh/ns/persona-mesh/sa/inference/pod/1",
  "spiffe://persona-mesh/ns/persona-mesh/sa/../sa/inference",
  "spiffe://persona-mesh/ns/persona-mesh/sa/inf%65rence",
  "spiffe://persona-mesh/ns/persona-mesh/sa/inference?x",
  "spiffe://persona-mesh/ns/persona-mesh/sa/inference#x",
  "spiffe://persona-mesh:443/ns/persona-mesh/sa/inference",
  "https://persona-mesh/ns/persona-mesh/sa/inference",
  "xspiffe://persona-mesh/ns/persona-mesh/sa/inference",
])("the id %s proves nothing", async (uri) => {
  await expect(identify({ uris: [uri] })).rejects.toMatchObject({
    reason: "CERTIFICATE_INVALID",
    message: expect.stringContaining("is not of the form"),
  });
});

test("no URI, two SPIFFE ids, and another URI beside the id prove nothing", async () => {
  await expect(identify({ uris: [] })).rejects.toThrow("no SPIFFE id");
  await expect(identify({ uris: [], dns: [] })).rejects.toThrow("no SPIFFE id");
  const other = serviceId("persona-mesh", "calibrator");
  await expect(identify({ uris: [INFERENCE_ID, other] })).rejects.toThrow("more than one URI");
  await expect(identify({ uris: [INFERENCE_ID, "https://example.org"] })).rejects.toThrow("more than one URI");
});

test.each([`x, URI:${INFERENCE_ID}`, `x", URI:${INFERENCE_ID}, DNS:"`, `URI:${INFERENCE_ID}`])(
  "a host name that reads like a URI is none: %s",
  async (dns) => {
    await expect(identify({ uris: [], dns: [dns] })).rejects.toMatchObject({ reason: "CERTIFICATE_INVALID" });
  },
);

test("a URI that needs quoting is refused, and does not hide a second one", async () => {
  await expect(identify({ uris: [`${INFERENCE_ID}, URI:${INFERENCE_ID}`] })).rejects.toThrow("is not of the form");
  await expect(identify({ uris: [`a,b`, INFERENCE_ID] })).rejects.toThrow("more than one URI");
});

test("a certificate counts in its time only, whatever the connection found when it was made", async () => {
  await expect(identify({ endsIn: -1 })).rejects.toThrow("it expired at");
  await expect(identify({ startsIn: 60 })).rejects.toThrow("not valid yet");
  await identify({ startsIn: 3 });
  await identify({ endsIn: 60 });
  await expect(identify({ endsIn: 60 }, Date.now() + 61_000)).rejects.toThrow("it expired at");
});

test("an authority's own certificate proves no service", async () => {
  await expect(identify({ isAuthority: true })).rejects.toThrow("an authority's own");
});

test("ids are only made of what is read back", () => {
  for (const [service, instance] of [["Inference"], ["a/b"], [""], ["inference", ".."], ["inference", ""]]) {
    expect(() => serviceId("persona-mesh", service ?? "", instance)).toThrow("is not the id of a service");
  }
  for (const domain of ["persona-mesh", "prod.example.org", "a", "a_b"]) expect(domain).toMatch(TRUST_DOMAIN);
  for (const domain of ["", "A", "a/b", "a:1", ".a", "a.", "a b", "a".repeat(256)])
    expect(domain).not.toMatch(TRUST_DOMAIN);
});
