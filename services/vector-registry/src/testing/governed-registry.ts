import type { DescService } from "@bufbuild/protobuf";
import { ApprovalService, PersonaService, VectorService } from "@persona-mesh/protocol/registry";
import { type Client, ClientError, type RoleName } from "@persona-mesh/service";
import { sql } from "kysely";
import type { RunningRegistry } from "../start-registry.ts";
import * as rows from "./governed-rows.ts";
import { openTestRegistry, type TestRegistry } from "./test-registry.ts";

/** A real registry with tenants whose vectors are written by plain SQL, and people who act in one of them. */
export interface GovernedRegistry extends TestRegistry {
  /** A fresh tenant with the vector `cheerful`, of which these seeds are published by alice and validated from −0.5 to 0.5. */
  tenant(...seeds: number[]): Promise<GovernedTenant>;
}

export interface GovernedTenant {
  readonly id: string;
  /** "tenants/{id}". */
  readonly name: string;
  version(seed: number): string;
  alias(alias: string): string;
  persona(persona: string): string;
  personas(subject?: string, role?: RoleName, replica?: RunningRegistry): Promise<Client<typeof PersonaService>>;
  approvals(subject?: string, role?: RoleName, replica?: RunningRegistry): Promise<Client<typeof ApprovalService>>;
  vectors(subject?: string, role?: RoleName, replica?: RunningRegistry): Promise<Client<typeof VectorService>>;
  /** Plain SQL as the service, with an entry in the audit. */
  write(...statements: Parameters<typeof rows.actAs>[2][number][]): Promise<void>;
  /** Let approvals run out, which nobody but the database's owner can. */
  age(): Promise<void>;
}

export async function openGovernedRegistry(): Promise<GovernedRegistry> {
  const registry = await openTestRegistry();
  const { database } = registry;
  let count = 0;
  const tenant = async (...seeds: number[]): Promise<GovernedTenant> => {
    const id = `tenant-${++count}`;
    await rows.addTenants(database.service, id);
    if (seeds.length > 0) {
      await rows.actAs(database.service, id, [
        ...seeds.flatMap((seed) => rows.publish(id, seed)),
        ...seeds.map((seed) => rows.evaluate(id, seed)),
      ]);
    }
    const clients = new Map<string, Promise<unknown>>();
    const client = <Service extends DescService>(
      service: Service,
      subject: string,
      role: RoleName,
      replica = registry.running,
    ): Promise<Client<Service>> => {
      const key = [service.typeName, subject, role, replica.server.address].join();
      const known = clients.get(key) ?? registry.client(service, { subject, tenant: id, roles: [role] }, replica);
      clients.set(key, known);
      return known as Promise<Client<Service>>;
    };
    return {
      id,
      name: `tenants/${id}`,
      version: (seed) => `tenants/${id}/vectors/cheerful/versions/${rows.digestOf(seed)}`,
      alias: (alias) => `tenants/${id}/vectors/cheerful/aliases/${alias}`,
      persona: (persona) => `tenants/${id}/personas/${persona}`,
      personas: (subject = "alice", role = "admin", replica) => client(PersonaService, subject, role, replica),
      approvals: (subject = "bob", role = "approver", replica) => client(ApprovalService, subject, role, replica),
      vectors: (subject = "alice", role = "admin", replica) => client(VectorService, subject, role, replica),
      write: (...statements) => rows.actAs(database.service, id, statements),
      age: () =>
        database.owner.db.transaction().execute(async (tx) => {
          await sql`SET LOCAL session_replication_role = replica`.execute(tx);
          await sql`UPDATE registry.approvals SET created_at = created_at - interval '2 days',
            expires_at = now() - interval '1 second' WHERE tenant = ${id}`.execute(tx);
        }),
    };
  };
  return { ...registry, tenant };
}

/** The reason of a call that is refused; "accepted" for one that is not. */
export async function outcome(call: Promise<unknown>): Promise<string> {
  return (await refusal(call))?.reason ?? "accepted";
}

/** What a refused call gives; undefined where it is accepted. */
export async function refusal(call: Promise<unknown>): Promise<ClientError | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    if (error instanceof ClientError) return error;
    throw error;
  }
}
