/**
 * Largest request or response, in bytes: gRPC's own default receive limit, so that any client can talk to us unchanged.
 * A capture of 48 layers × 4096 values × 2 tensors is 1.6 MB.
 */
export const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;

/** Calls on one connection at once; HTTP/2 makes further ones wait in the client. Bounds what one peer can hold. */
export const MAX_STREAMS_PER_CONNECTION = 1024;

/** How often either side probes a silent connection: well below the 350 s after which cloud balancers drop it unheard. */
export const KEEPALIVE_TIME_MS = 60_000;

/** How long a probe may stay unanswered before the connection counts as dead. */
export const KEEPALIVE_TIMEOUT_MS = 20_000;

/** Connections without any call are closed after this; clients reconnect by themselves. */
export const MAX_CONNECTION_IDLE_MS = 30 * 60_000;

/**
 * Connections are asked to end after this, their calls run on: clients reconnect with the certificate that they have by
 * then, and spread over the servers that there are by then.
 */
export const MAX_CONNECTION_AGE_MS = 60 * 60_000;

/**
 * How long a client may leave what was written for it unread. What its handler has for it meanwhile is kept in memory, and
 * its call counts: without this, for as long as its deadline lets it.
 */
export const MAX_READER_PAUSE_MS = 60_000;

/** Health watches and reflection streams need no token; this many may be open at once. */
export const MAX_PUBLIC_CALLS = 128;

/** After their signal fires, handlers get this long to return before shutdown goes on without them. */
export const HANDLER_GRACE_MS = 2_000;
