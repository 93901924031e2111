import { ServiceError } from "../errors/service-error.ts";

/** Why a port could not be listened on, for the person who starts the service. */
export function portError(error: Error, optionName: string, host: string, port: number): ServiceError {
  if (/EADDRINUSE/.test(error.message)) {
    const message = `${optionName}: another process listens on ${host}:${port}; stop it or choose another port`;
    return new ServiceError("PORT_IN_USE", message, { metadata: { port: String(port), host }, cause: error });
  }
  return new ServiceError("CONFIG_INVALID", `${optionName}: cannot listen on ${host}:${port}: ${error.message}`, {
    cause: error,
  });
}
