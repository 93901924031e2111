let jobs = 0;

/**
 * An id that no other job of this process has.
 *
 * Not the request id itself: that is the caller's to choose, and a caller who chose another's could cancel their job.
 */
export function newJobId(requestId: string): string {
  jobs++;
  return `${requestId}/${jobs}`;
}
