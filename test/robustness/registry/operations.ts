import { randomUUID } from "node:crypto";
import { status } from "@grpc/grpc-js";
import { ApprovalDecision, ApprovalService, PersonaService, VectorService } from "@persona-mesh/protocol/registry";
import { type Client, ClientError } from "@persona-mesh/service";
import { encodeVector, type VectorManifest } from "@persona-mesh/steering";
import type { Acknowledged, Operation, Outcome } from "./history.ts";
import type { Stage } from "./stage.ts";

/** The model that everything is about: small, for it is never run. */
export const MODEL = { checksum: "c".repeat(64), layers: 4, hidden: 16 } as const;
export const TENANTS = ["acme", "globex"] as const;
export const VECTORS = ["calm", "warm"] as const;
const ALIASES = ["production", "canary"] as const;

/** Tries of one request, at both replicas in turn. */
const MAX_TRIES = 8;

/** Between tries. Milliseconds. */
const RETRY_DELAY = 150;

/** Everything that a client has seen. */
export interface Log {
  readonly registers: Operation[];
  readonly acknowledged: Acknowledged[];
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
  #published = 0;
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

  async #step(): Promise<void> {
    const draw = this.#random();
    if (this.#versions.length === 0 || draw < 0.2) return this.#publish();
    if (draw < 0.35) return this.#approve();
    if (draw < 0.6) return this.#moveAlias();
    if (draw < 0.8) {
      await this.#readAlias();
      return;
    }
    if (draw < 0.88) return this.#rollBack();
    if (draw < 0.97) return this.#activate();
    return this.#revoke();
  }

  async #publish(): Promise<void> {
    const vector = this.#pick(VECTORS);
    const parent = `tenants/${this.#tenant}/vectors/${vector}`;
    const content = this.#content(vector);
    const published = await this.#call("PublishVersion", (service, requestId) =>
      service.admin.publishVersion({
        parent,
        content,
        requestId,
        evaluation: { alphaMinHundredths: -50, alphaMaxHundredths: 50, figures: { coherence: 0.9 } },
      }),
    );
    if (published === undefined) return;
    const name = published.answer.version?.name ?? "";
    this.#versions.push(name);
    this.#acknowledge("PublishVersion", name, published.requestId);
  }

  async #approve(): Promise<void> {
    const version = this.#pick(this.#versions);
    const approved = await this.#call("CreateApproval", (service, requestId) =>
      service.approver.createApproval({
        parent: `tenants/${this.#tenant}`,
        version,
        decision: ApprovalDecision.APPROVE,
        requestId,
      }),
    );
    if (approved) this.#acknowledge("CreateApproval", approved.answer.approval?.name ?? "", approved.requestId);
  }

  async #readAlias(): Promise<{ readonly name: string; readonly etag: string }> {
    const vector = this.#pick(VECTORS);
    const name = `tenants/${this.#tenant}/vectors/${vector}/aliases/${this.#pick(ALIASES)}`;
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
      const { alias } = await (this.#services[this.#at++ % 2] as Services).admin.getAlias({ name });
      read(alias?.version, alias?.etag ?? "");
      this.#count("GetAlias", "ok");
      return { name, etag: alias?.etag ?? "" };
    } catch (error) {
      const { code } = ClientError.from(error);
      if (code === status.NOT_FOUND) read(undefined, "0");
      this.#count("GetAlias", status[code]);
      return { name, etag: "0" };
    }
  }

  async #moveAlias(): Promise<void> {
    const { name, etag } = await this.#readAlias();
    const vector = name.split("/aliases/")[0] as string;
    const version = this.#pick(this.#versions.filter((it) => it.startsWith(`${vector}/`)));
    if (version === undefined) return;
    await this.#write(name, version, "SetAlias", (service, requestId) =>
      service.admin.setAlias({ alias: { name, version, etag }, reason: "random", requestId }),
    );
  }

  async #rollBack(): Promise<void> {
    const { name, etag } = await this.#readAlias();
    if (etag === "0") return;
    await this.#write(name, undefined, "RollbackAlias", (service, requestId) =>
      service.admin.rollbackAlias({ name, etag, reason: "random", requestId }),
    );
  }

  /** A write of a register, whose answer tells its order. @param value - undefined where only the answer tells it */
  async #write(
    key: string,
    value: string | undefined,
    action: string,
    call: (
      service: Services,
      requestId: string,
    ) => Promise<{ readonly alias?: { readonly version: string; readonly etag: string } | undefined }>,
  ): Promise<void> {
    const invoked = performance.now();
    let outcome: Outcome = { kind: "ok" };
    const written = await this.#call(action, call, (failed) => {
      outcome = failed;
    });
    const alias = written?.answer.alias;
    this.#log.registers.push({
      kind: "write",
      key,
      // Of a roll-back that nobody answered, nobody knows what it wrote.
      value: alias?.version ?? value,
      order: alias === undefined ? undefined : orderOf(alias.etag),
      invoked,
      completed: performance.now(),
      outcome,
    });
    if (written && alias) this.#acknowledge(action, `${key}@${alias.etag}`, written.requestId);
  }

  async #activate(): Promise<void> {
    const parent = `tenants/${this.#tenant}`;
    const persona = `${parent}/personas/${this.#pick(["host", "guide"])}`;
    const isCreate = this.#random() < 0.4;
    if (isCreate) {
      const vector = `${parent}/vectors/${this.#pick(VECTORS)}/aliases/canary`;
      const spec = { terms: [{ vector, alphaHundredths: 10 + Math.floor(this.#random() * 20) }] };
      const id = persona.split("/").at(-1) as string;
      const made = await this.#call("CreatePersona", (service, requestId) =>
        service.personas.createPersona({ parent, personaId: id, persona: { spec }, requestId }),
      );
      if (made) this.#acknowledge("CreatePersona", persona, made.requestId);
      return;
    }
    if (this.#random() < 0.2) {
      const done = await this.#call("DeactivatePersona", (service, requestId) =>
        service.personas.deactivatePersona({ parent, requestId }),
      );
      if (done) this.#acknowledge("DeactivatePersona", parent, done.requestId);
      return;
    }
    const done = await this.#call("ActivatePersona", (service, requestId) =>
      service.personas.activatePersona({ name: persona, requestId, reason: "random" }),
    );
    if (done) this.#acknowledge("ActivatePersona", persona, done.requestId);
  }

  async #revoke(): Promise<void> {
    const name = this.#pick(this.#versions);
    const revoked = await this.#call("RevokeVersion", (service, requestId) =>
      service.admin.revokeVersion({ name, reason: "random", force: this.#random() < 0.3, requestId }),
    );
    if (revoked) this.#acknowledge("RevokeVersion", name, revoked.requestId);
  }

  /** Call until an answer is had, under one request id. @returns undefined where there was none, or a refusal */
  async #call<Answer>(
    action: string,
    call: (service: Services, requestId: string) => Promise<Answer>,
    onFailed: (outcome: Outcome) => void = () => {},
  ): Promise<{ readonly answer: Answer; readonly requestId: string } | undefined> {
    const requestId = randomUUID();
    for (let tries = 1; ; tries++) {
      try {
        const answer = await call(this.#services[this.#at++ % 2] as Services, requestId);
        this.#count(action, "ok");
        return { answer, requestId };
      } catch (error) {
        const { code, reason } = ClientError.from(error);
        if (!UNCLEAR.has(code) || reason === "QUOTA_EXCEEDED") {
          this.#count(action, reason);
          onFailed({ kind: "refused", reason });
          return undefined;
        }
        if (tries === MAX_TRIES) {
          this.#count(action, `unknown: ${reason}`);
          onFailed({ kind: "unknown", reason });
          return undefined;
        }
        await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY * (0.5 + this.#random()) * tries));
      }
    }
  }

  #acknowledge(action: string, what: string, requestId: string): void {
    this.#log.acknowledged.push({ action, what, requestId, tenant: this.#tenant });
  }

  #count(action: string, answer: string): void {
    const key = `${action} ${answer}`;
    this.#log.counts.set(key, (this.#log.counts.get(key) ?? 0) + 1);
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random() * items.length)] as Item;
  }

  /** A new version: the same never twice. */
  #content(name: string): Uint8Array {
    const at = this.#published++ % MODEL.layers;
    const direction = Float32Array.from({ length: MODEL.hidden }, () => this.#random() - 0.5);
    const length = Math.hypot(...direction);
    const unit = direction.map((value) => value / length);
    const digest = randomUUID().replaceAll("-", "").repeat(2);
    const manifest: VectorManifest = {
      formatVersion: 1,
      name,
      modelChecksum: MODEL.checksum,
      graphDigest: "d".repeat(64),
      hiddenSize: MODEL.hidden,
      layerCount: MODEL.layers,
      site: "post_block",
      layers: [at],
      referenceNorms: [1],
      method: "MEAN_DIFF",
      pooling: "last_prompt_token",
      extractorVersion: "robustness",
      pairCount: 8,
      pairsDigest: digest,
      baselineDigest: digest,
      quality: [
        { pairwiseCosine: 0.5, auc: 1, rightSignShare: 1, splitHalfCosine: 0.9, normBefore: 1, removedCosine: 0 },
      ],
    };
    return encodeVector({ manifest, directions: new Map([[at, unit]]) });
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
