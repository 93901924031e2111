/** What one tenant asks of a worker. */
export interface TenantLoad {
  readonly tenant: string;
  /** Of a caller of the tenant. */
  readonly token: string;
  /** Resource names, worn in turns. */
  readonly personas: readonly string[];
  /**
   * - `rate`: requests a second at random moments, sent whatever becomes of earlier ones
   * - `streams`: so many at a time, a new one as soon as one ends
   */
  readonly arrivals:
    | { readonly kind: "rate"; readonly perSecond: number }
    | { readonly kind: "streams"; readonly count: number };
}

/** A load, bounded in time: what the process that makes it is told. */
export interface LoadPlan {
  /** `host:port`, plain text: both are on this machine. */
  readonly address: string;
  readonly tenants: readonly TenantLoad[];
  readonly seconds: number;
  readonly seed: number;
  /** Token ids of a long text: a prompt is a piece of it, from a random place on. */
  readonly corpus: readonly number[];
  readonly temperature: number;
  /** Lengths of prompts, tokens, each as likely. */
  readonly promptTokens: readonly number[];
  /** Lengths of replies, tokens, each as likely. */
  readonly replyTokens: readonly number[];
}

/** What became of one tenant's requests. Times as the client saw them, encoded by `Latencies`. */
export interface TenantReport {
  readonly tenant: string;
  readonly sent: number;
  readonly finished: number;
  /** By reason, of those that were refused or failed. */
  readonly refused: Readonly<Record<string, number>>;
  /** Tokens of replies that came while the load ran. */
  readonly tokens: number;
  readonly firstToken: string;
  /** Between two tokens of a stream. */
  readonly betweenTokens: string;
  /** For a slot, as the worker says. */
  readonly queue: string;
}

export interface LoadReport {
  readonly seconds: number;
  readonly tenants: readonly TenantReport[];
}
