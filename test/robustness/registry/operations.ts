import { createHash, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { status } from "@grpc/grpc-js";
import { ApprovalDecision, ApprovalService, PersonaService, VectorService } from "@persona-mesh/protocol/registry";
import { type Client, ClientError } from "@persona-mesh/service";
import type { ContentRead, Operation, Outcome, Request, Write } from "./history.ts";
import { ALIASES, randomContent, VECTORS } from "./scene.ts";
import type { Stage } from "./stage.ts";

/** Tries of one request, at both replicas in turn. */
const MAX_TRIES = 8;

/** Between tries. Milliseconds. */
const RETRY_DELAY = 150;

/** Everything that a client has seen. */
export interface Log {
  readonly registers: Operation[];
  readonly requests: Request[];
  readonly contents: ContentRead[];
  /** Answers that no fault explains. */
  readonly defects: string[];
  /** Answers by their kind, to see that enough was tried. */
  readonly counts: Map<string, number>;
}

interface Services {
  readonly admin: Client<typeof VectorService>;
  readonly personas: Client<typeof PersonaService>;
  readonly approver: Client<typeof ApprovalService>;
}

/**
 * One client of one tenant: random calls one after the other, each repeated with the same request id at the other replica
 * where nobody knows what became of it.
 */
export class RandomClient {
  readonly #tenant: string;
  readonly #services: readonly Services[];
  readonly #random: () => number;
  readonly #log: Log;
  /** Names of versions that this client published. */
  readonly #versions: string[] = [];
  #at = 0;

  static async open(stage: Stage, tenant: string, random: () => number, log: Log): Promise<RandomClient> {
    const services = await Promise.all(
      stage.replicas.map(async (replica) => ({
        admin: await stage.client(VectorService, replica, { subject: "alice", tenant }),
        personas: await stage.client(PersonaService, replica, { subject: "alice", tenant }),
        approver: await stage.client(ApprovalService, replica, { subject: "bob", tenant, roles: ["approver"] }),
      })),
    );
    return new RandomClient(tenant, services, random, log);
  }

  private constructor(tenant: string, services: readonly Services[], random: () => number, log: Log) {
    this.#tenant = tenant;
    this.#services = services;
    this.#random = random;
    this.#log = log;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) await this.#step();
  }

  /** Read every alias of the tenant at both replicas: what was written last must be there. */
  async readEverything(): Promise<void> {
    for (const vector of VECTORS) {
      for (const alias of ALIASES) {
        for (const _ of this.#services) await this.#readAlias(this.#aliasName(vector, alias));
      }
    }
  }

  async #step(): Promise<void> {
    const draw = this.#random();
    if (this.#versions.length === 0 || draw < 0.18) return this.#publish();
    if (draw < 0.33) return this.#approve();
    if (draw < 0.55) return this.#moveAlias();
    if (draw < 0.68) {
      await this.#readAlias(this.#anyAlias());
      return;
    }
    if (draw < 0.78) return this.#readContent();
    if (draw < 0.86) return this.#rollBack();
    if (draw < 0.97) return this.#activate();
    return this.#revoke();
  }

  async #publish(): Promise<void> {
    const vector = this.#pick(VECTORS);
    const parent = `tenants/${this.#tenant}/vectors/${vector}`;
    const content = randomContent(vector, this.#random);
    const published = await this.#change(
      "PublishVersion",
      (service, requestId) =>
        service.admin.publishVersion({
          parent,
          content,
          requestId,
          evaluation: { alphaMinHundredths: -50, alphaMaxHundredths: 50, figures: { coherence: 0.9 } },
        }),
      ({ version }) => version?.name ?? "",
    );
    if (published.answer?.version) this.#versions.push(published.answer.version.name);
  }

  async #approve(): Promise<void> {
    const version = this.#pick(this.#versions);
    await this.#change(
      "CreateApproval",
      (service, requestId) =>
        service.approver.createApproval({
          parent: `tenants/${this.#tenant}`,
          version,
          decision: ApprovalDecision.APPROVE,
          requestId,
        }),
      ({ approval }) => approval?.name ?? "",
    );
  }

  /** @returns the alias's etag; "0" where there is none, or nobody answered */
  async #readAlias(name: string): Promise<string> {
    const invoked = performance.now();
    const read = (value: string | undefined, etag: string) =>
      this.#log.registers.push({
        kind: "read",
        key: name,
        value,
        order: orderOf(etag),
        invoked,
        completed: performance.now(),
      });
    try {
      const { alias } = await this.#nextService().admin.getAlias({ name });
      read(alias?.version, alias?.etag ?? "");
      this.#count("GetAlias", "ok");
      return alias?.etag ?? "";
    } catch (error) {
      const failed = this.#failed("GetAlias", error);
      if (failed.code === status.NOT_FOUND) read(undefined, "0");
      this.#count("GetAlias", failed.reason);
      return "0";
    }
  }

  async #readContent(): Promise<void> {
    const version = this.#pick(this.#versions);
    try {
      const { content } = await this.#nextService().admin.getVersionContent({ name: version });
      const isIntact = version.endsWith(`/${createHash("sha256").update(content).digest("hex")}`);
      this.#log.contents.push({ tenant: this.#tenant, version, isIntact });
      this.#count("GetVersionContent", "ok");
    } catch (error) {
      this.#count("GetVersionContent", this.#failed("GetVersionContent", error).reason);
    }
  }

  async #moveAlias(): Promise<void> {
    const name = this.#anyAlias();
    const etag = await this.#readAlias(name);
    const vector = name.split("/aliases/")[0] as string;
    const version = this.#pick(this.#versions.filter((it) => it.startsWith(`${vector}/`)));
    if (version === undefined) return;
    await this.#write({ key: name, value: version, expected: orderOf(etag) }, "SetAlias", (service, requestId) =>
      service.admin.setAlias({ alias: { name, version, etag }, reason: "random", requestId }),
    );
  }

  async #rollBack(): Promise<void> {
    const name = this.#anyAlias();
    const etag = await this.#readAlias(name);
    if (etag === "0") return;
    await this.#write({ key: name, value: undefined, expected: orderOf(etag) }, "RollbackAlias", (service, requestId) =>
      service.admin.rollbackAlias({ name, etag, reason: "random", requestId }),
    );
  }

  /** A write of a register, whose answer tells its order. @param of - no value where only the answer tells it */
  async #write(
    of: Pick<Write, "key" | "value" | "expected">,
    action: string,
    call: (
      service: Services,
      requestId: string,
    ) => Promise<{ readonly alias?: { readonly version: string; readonly etag: string } | undefined }>,
  ): Promise<void> {
    const invoked = performance.now();
    const { answer, outcome } = await this.#change(action, call, ({ alias }) => targetOf(of.key, alias));
    const alias = answer?.alias;
    this.#log.registers.push({
      kind: "write",
      ...of,
      // Of a roll-back that nobody answered, nobody knows what it wrote.
      value: alias?.version ?? of.value,
      order: alias === undefined ? undefined : orderOf(alias.etag),
      invoked,
      completed: performance.now(),
      outcome,
    });
  }

  async #activate(): Promise<void> {
    const parent = `tenants/${this.#tenant}`;
    const id = this.#pick(["host", "guide"]);
    const persona = `${parent}/personas/${id}`;
    const draw = this.#random();
    if (draw < 0.3) {
      const vector = this.#aliasName(this.#pick(VECTORS), "canary");
      const spec = { terms: [{ vector, alphaHundredths: 10 + Math.floor(this.#random() * 20) }] };
      await this.#change(
        "CreatePersona",
        (service, requestId) => service.personas.createPersona({ parent, personaId: id, persona: { spec }, requestId }),
        () => persona,
      );
    } else if (draw < 0.4) {
      await this.#change(
        "DeactivatePersona",
        (service, requestId) => service.personas.deactivatePersona({ parent, requestId }),
        () => parent,
      );
    } else {
      await this.#change(
        "ActivatePersona",
        (service, requestId) => service.personas.activatePersona({ name: persona, requestId, reason: "random" }),
        () => persona,
      );
    }
  }

  async #revoke(): Promise<void> {
    const name = this.#pick(this.#versions);
    const force = this.#random() < 0.3;
    await this.#change(
      "RevokeVersion",
      (service, requestId) => service.admin.revokeVersion({ name, reason: "random", force, requestId }),
      () => name,
    );
  }

  /** Change something: call until an answer is had, under one request id. @param whatOf - name of what is there then */
  async #change<Answer>(
    action: string,
    call: (service: Services, requestId: string) => Promise<Answer>,
    whatOf: (answer: Answer) => string,
  ): Promise<{ readonly answer?: Answer; readonly outcome: Outcome }> {
    const requestId = randomUUID();
    const { answer, outcome } = await this.#tryOn(action, (service) => call(service, requestId));
    this.#count(action, outcome.kind === "ok" ? "ok" : `${outcome.kind}: ${outcome.reason}`);
    const what = answer === undefined ? undefined : whatOf(answer);
    this.#log.requests.push({ tenant: this.#tenant, action, requestId, what, outcome });
    return { ...(answer === undefined ? {} : { answer }), outcome };
  }

  async #tryOn<Answer>(
    action: string,
    call: (service: Services) => Promise<Answer>,
  ): Promise<{ readonly answer?: Answer; readonly outcome: Outcome }> {
    for (let tries = 1; ; tries++) {
      try {
        return { answer: await call(this.#nextService()), outcome: { kind: "ok" } };
      } catch (error) {
        const { code, reason } = this.#failed(action, error);
        if (!UNCLEAR.has(code) || reason === "QUOTA_EXCEEDED") {
          // A try before, of which nobody heard, may still be on its way.
          return { outcome: { kind: tries === 1 ? "refused" : "unknown", reason } };
        }
        if (tries === MAX_TRIES) return { outcome: { kind: "unknown", reason } };
        this.#count(action, `tried again: ${reason}`);
        await sleep(RETRY_DELAY * (0.5 + this.#random()) * tries);
      }
    }
  }

  #nextService(): Services {
    return this.#services[this.#at++ % 2] as Services;
  }

  #anyAlias(): string {
    return this.#aliasName(this.#pick(VECTORS), this.#pick(ALIASES));
  }

  #aliasName(vector: string, alias: string): string {
    return `tenants/${this.#tenant}/vectors/${vector}/aliases/${alias}`;
  }

  /** What a call failed with. A defect is one that a server, not the network, says it does not understand. */
  #failed(action: string, error: unknown): ClientError {
    const failed = ClientError.from(error);
    if (failed.reason === "INTERNAL" && failed.requestId !== undefined)
      this.#log.defects.push(`${action} was answered with ${failed.message} (call ${failed.requestId})`);
    return failed;
  }

  #count(action: string, answer: string): void {
    const key = `${action} ${answer}`;
    this.#log.counts.set(key, (this.#log.counts.get(key) ?? 0) + 1);
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random() * items.length)] as Item;
  }
}

/** After these nobody knows whether it was done. */
const UNCLEAR = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.UNKNOWN,
  status.INTERNAL,
  status.RESOURCE_EXHAUSTED,
]);

/** Etags count the states of a row, in base 36. */
function orderOf(etag: string): bigint {
  return BigInt(Number.parseInt(etag, 36));
}

/** An alias's target as the history of targets has it. */
function targetOf(alias: string, to: { readonly version: string; readonly etag: string } | undefined): string {
  return to === undefined ? alias : `${alias}@${orderOf(to.etag)}=${to.version.split("/").at(-1)}`;
}
