import { X509Certificate } from "node:crypto";
import { RESOURCE_ID } from "../auth/caller.ts";
import { ServiceError } from "../errors/service-error.ts";

/** Who a certificate proves its holder to be. */
export interface ServiceIdentity {
  /** `spiffe://TRUST_DOMAIN/ns/persona-mesh/sa/SERVICE[/INSTANCE]` */
  readonly id: string;
  readonly service: string;
}

/**
 * The name of a service as SPIFFE writes it, in the form that Kubernetes workload identities have.
 *
 * @param instance - tells replicas apart in logs and audit; it carries no rights
 */
export function serviceId(trustDomain: string, service: string, instance?: string): string {
  const id = `spiffe://${trustDomain}/${PATH}/${service}${instance === undefined ? "" : `/${instance}`}`;
  if (parseServiceId(id, trustDomain)?.service !== service) throw new Error(`${id} is not the id of a service`);
  return id;
}

export const DEFAULT_TRUST_DOMAIN = "persona-mesh";

/** What SPIFFE allows as a trust domain: lower case, and no port. */
export const TRUST_DOMAIN = /^[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?$/;

/**
 * The service that a certificate names. The connection must have verified it up to an authority that the server trusts;
 * here only what it says is looked at, and its time again, because connections outlive certificates.
 *
 * @param certificate - DER
 * @param now - milliseconds since the epoch
 * @throws ServiceError CERTIFICATE_INVALID
 */
export function serviceIdentityOf(certificate: Uint8Array, trustDomain: string, now: number): ServiceIdentity {
  const parsed = new X509Certificate(certificate);
  if (parsed.ca) throw invalid("it is an authority's own");
  if (now > parsed.validToDate.getTime()) throw invalid(`it expired at ${parsed.validToDate.toISOString()}`);
  if (now < parsed.validFromDate.getTime() - CLOCK_TOLERANCE_MS) throw invalid("it is not valid yet");
  const uris = uriNames(parsed.subjectAltName ?? "");
  const [uri] = uris;
  if (uri === undefined) throw invalid("it has no SPIFFE id among its names");
  // By the SPIFFE standard; with two, whoever reads the other one sees another service.
  if (uris.length > 1) throw invalid("it has more than one URI among its names");
  const identity = parseServiceId(uri, trustDomain);
  if (identity === undefined) throw invalid(`its id is not of the form spiffe://${trustDomain}/${PATH}/SERVICE`);
  return identity;
}

const PATH = "ns/persona-mesh/sa";

/** As for tokens: clocks of machines with NTP differ by less. */
const CLOCK_TOLERANCE_MS = 5_000;

const INSTANCE = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,62}$/;

function parseServiceId(uri: string, trustDomain: string): ServiceIdentity | undefined {
  const prefix = `spiffe://${trustDomain}/${PATH}/`;
  if (!uri.startsWith(prefix)) return undefined;
  const [service = "", instance, ...rest] = uri.slice(prefix.length).split("/");
  if (rest.length > 0 || !RESOURCE_ID.test(service)) return undefined;
  if (instance !== undefined && !INSTANCE.test(instance)) return undefined;
  return { id: uri, service };
}

/**
 * The URIs of Node's text for alternative names: `DNS:a, URI:b, DNS:"quoted, because it could be mistaken"`. Read from
 * end to end, so that nothing inside another name passes for a URI. A quoted URI is none that we write.
 *
 * @throws ServiceError CERTIFICATE_INVALID for a text that is not of this form
 */
function uriNames(text: string): string[] {
  const uris: string[] = [];
  let end = 0;
  for (const match of text.matchAll(/(?:^|, )([A-Za-z][A-Za-z ]*):("(?:[^"\\]|\\.)*"|[^",]*)(?=, |$)/gy)) {
    const [whole, kind, value = ""] = match;
    if (kind === "URI") uris.push(value);
    end = match.index + whole.length;
  }
  if (end !== text.length) throw invalid("its names cannot be read");
  return uris;
}

function invalid(why: string): ServiceError {
  return new ServiceError("CERTIFICATE_INVALID", `the certificate proves no service: ${why}`);
}
