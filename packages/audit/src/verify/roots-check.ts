import type { AuditInclusion, AuditKey, AuditRoot } from "@persona-mesh/protocol/registry";
import { AUDIT_CHAINS, type AuditChainName } from "../chain.ts";
import { chainName } from "../export-format.ts";
import { type AuditPublicKey, RootVerifier } from "../keys.ts";
import { headLeaf, rootOver } from "../merkle.ts";
import { decodeRootBody, NO_ROOT, type RootBody, rootHash } from "../root.ts";
import type { Checkpoint } from "./chain-check.ts";
import type { Problems } from "./problem.ts";

/**
 * The roots of an export and the proofs under them, in the order of the file. What holds becomes checkpoints of the
 * chains; what does not is a problem and proves nothing.
 */
export class RootsCheck {
  readonly checkpoints: Readonly<Record<AuditChainName, Checkpoint[]>> = { CHANGES: [], READS: [] };
  /** Hash of the body of each root, by number. */
  readonly hashes = new Map<bigint, string>();
  /** Numbers of the roots that a key of the export's own vouches for, and no trusted one. */
  readonly unvouched = new Set<bigint>();
  /** The highest number of a root in the export, whether it holds or not. */
  reached = 0n;
  /** The newest root that holds. */
  newest: RootBody | undefined;
  readonly #tenant: string;
  readonly #problems: Problems;
  readonly #verifier = new RootVerifier();
  readonly #trusted: ReadonlySet<string> | undefined;
  /** What inclusions are checked against: the last root, or that it does not hold. */
  #current: RootBody | "bad" | undefined;
  #last: { readonly number: bigint; readonly hash: string } | undefined;
  #included = new Set<AuditChainName>();

  /** @param trustedKeys - undefined: the keys in the export are used, and what they sign is unvouched */
  constructor(tenant: string, trustedKeys: readonly AuditPublicKey[] | undefined, problems: Problems) {
    this.#tenant = tenant;
    this.#problems = problems;
    for (const key of trustedKeys ?? []) this.#verifier.add(key);
    this.#trusted = trustedKeys && new Set(trustedKeys.map(({ keyId }) => keyId));
  }

  key({ keyId, jwk }: AuditKey): void {
    try {
      // Checked even where it is not used: a file with a key that is none was changed.
      const verifier = this.#trusted === undefined ? this.#verifier : new RootVerifier();
      verifier.add({ keyId, jwk });
    } catch (error) {
      this.#problems.add({ reason: "KEY", message: (error as Error).message });
    }
  }

  root(root: AuditRoot): void {
    this.#current = "bad";
    this.#included = new Set();
    const body = this.#readBody(root);
    if (body === undefined || !this.#hasPlace(body) || !this.#isSigned(root)) return;
    const hash = rootHash(root.body);
    this.#last = { number: body.number, hash };
    this.hashes.set(body.number, hash);
    this.#current = body;
    this.newest = body;
  }

  inclusion(inclusion: AuditInclusion): void {
    const { hash, leafCount, leafIndex, rootNumber, sequence } = inclusion;
    const chain = chainName(inclusion.chain);
    const root = this.#current;
    // The root is reported, and there is nothing to check this against.
    if (root === "bad") return;
    const path = inclusion.path.map((sibling) => Buffer.from(sibling, "hex"));
    const isWellFormed = inclusion.path.every((sibling) => SHA256.test(sibling)) && SHA256.test(hash);
    const position = { leafIndex: Number(leafIndex), leafCount: Number(leafCount), path };
    const proven =
      root !== undefined &&
      chain !== undefined &&
      isWellFormed &&
      rootNumber === root.number &&
      Number(leafCount) === root.leafCount &&
      !this.#included.has(chain) &&
      rootOver(headLeaf({ tenant: this.#tenant, chain, sequence, hash }), position)?.toString("hex") ===
        root.merkleRoot;
    if (!proven) {
      const message = `the proof that root ${rootNumber} covers ${chain ?? "a chain"} of ${this.#tenant} to entry ${sequence} does not lead there`;
      this.#problems.add({ reason: "INCLUSION_INVALID", root: rootNumber, message, ...(chain && { chain }) });
      return;
    }
    this.#included.add(chain);
    this.checkpoints[chain].push({ sequence, hash, root: root.number });
  }

  /** No root follows. */
  end(): void {
    if (this.newest === undefined) {
      this.#problems.add({
        reason: "ROOT_MISSING",
        message: "the export has no root that holds: nothing in it is signed",
      });
      return;
    }
    for (const chain of AUDIT_CHAINS) {
      if (this.#current === this.newest && this.#included.has(chain)) continue;
      const { number } = this.newest;
      const message = `the newest root, ${number}, comes without a proof for the chain ${chain}`;
      this.#problems.add({ reason: "INCLUSION_MISSING", root: number, chain, message });
    }
  }

  #readBody({ number, body, createTime }: AuditRoot): RootBody | undefined {
    if (number > this.reached) this.reached = number;
    const content = decodeRootBody(body);
    const time = createTime === undefined ? undefined : timeOf(createTime);
    if (content !== undefined && content.number === number && content.time === time) return content;
    this.#problems.add({ reason: "ROOT_MALFORMED", root: number, message: `root ${number} is not what its body says` });
    return undefined;
  }

  #hasPlace({ number, previousRoot }: RootBody): boolean {
    const last = this.#last;
    if (last !== undefined && number <= last.number) {
      const message =
        number === last.number
          ? `there are two roots ${number} in the export`
          : `root ${number} stands behind root ${last.number}`;
      this.#problems.add({ reason: "ROOT_FORKED", root: number, message });
      return false;
    }
    const expected = number === 1n ? NO_ROOT : last?.number === number - 1n ? last.hash : previousRoot;
    if (previousRoot === expected) return true;
    this.#problems.add({
      reason: "ROOT_UNLINKED",
      root: number,
      message: `root ${number} does not name the root before it`,
    });
    return false;
  }

  #isSigned(root: AuditRoot): boolean {
    const { keyId, number } = root;
    if (!this.#verifier.knows(keyId)) {
      const message = `root ${number} is signed with the key "${keyId.slice(0, 64)}", which is not trusted`;
      this.#problems.add({ reason: "ROOT_UNTRUSTED", root: number, message });
      return false;
    }
    if (!this.#verifier.verify(root)) {
      this.#problems.add({
        reason: "ROOT_SIGNATURE",
        root: number,
        message: `root ${number} is not signed with its key`,
      });
      return false;
    }
    if (this.#trusted === undefined) this.unvouched.add(number);
    return true;
  }
}

const SHA256 = /^[0-9a-f]{64}$/;

function timeOf({ seconds, nanos }: { readonly seconds: bigint; readonly nanos: number }): string | undefined {
  const time = new Date(Number(seconds) * 1000 + nanos / 1e6);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}
