import { ServiceError } from "@persona-mesh/service";

const MAX_WORKER_NAME = 128;

/** @throws ServiceError INVALID_ARGUMENT */
export function requireModelChecksum(checksum: string): string {
  if (/^[0-9a-f]{64}$/.test(checksum)) return checksum;
  throw ServiceError.invalid([{ field: "model_checksum", description: "must be a sha256 in lower-case hex" }]);
}

/** @throws ServiceError INVALID_ARGUMENT */
export function requireWorkerName(worker: string): string {
  if (worker.length >= 1 && worker.length <= MAX_WORKER_NAME && /^[\x21-\x7e]+$/.test(worker)) return worker;
  throw ServiceError.invalid([
    { field: "worker", description: `must have 1 to ${MAX_WORKER_NAME} printable ASCII characters without spaces` },
  ]);
}
