/** A read of vector bytes, as the audit remembers it. */
export interface ReadEntry {
  /** Whose bytes. */
  readonly tenant: string;
  /** Subject of the caller. */
  readonly actor: string;
  /** Name of the version. */
  readonly resource: string;
  /** Of the bytes: sha256, lower-case hex. */
  readonly digest: string;
  /** Id of the call that reads. */
  readonly callId: string;
  /** What the bytes are for, such as "served by worker-0". */
  readonly purpose: string;
}

/** Writes down who reads vector bytes, before they leave the registry. */
export interface ReadAudit {
  /**
   * Resolves when all of the entries are committed; nothing may be sent before that. Called outside of transactions: whoever
   * holds a connection while this waits for one can starve it.
   *
   * @throws ServiceError AUDIT_UNAVAILABLE where they are not, or not known to be
   */
  record(reads: readonly ReadEntry[]): Promise<void>;
}
