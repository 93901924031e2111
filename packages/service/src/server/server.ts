import { X509Certificate } from "node:crypto";
import type { DescService } from "@bufbuild/protobuf";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { createAuthenticator } from "../auth/authenticator.ts";
import { openKeys } from "../auth/open-keys.ts";
import { type Access, declaredAccess } from "../auth/permissions.ts";
import { createTokenVerifier } from "../auth/token-verifier.ts";
import { checkServiceConfig, type ServiceValues } from "../config/service-options.ts";
import type { ErrorMapper } from "../errors/error-mapper.ts";
import { ServiceError } from "../errors/service-error.ts";
import { CallGuard } from "../grpc/call-guard.ts";
import { serverDefinition, serverHandlers } from "../grpc/handlers.ts";
import { createHealth } from "../grpc/health.ts";
import type { ServiceImplementation } from "../grpc/implementation.ts";
import {
  HANDLER_GRACE_MS,
  KEEPALIVE_TIME_MS,
  KEEPALIVE_TIMEOUT_MS,
  MAX_CONNECTION_AGE_MS,
  MAX_CONNECTION_IDLE_MS,
  MAX_MESSAGE_BYTES,
  MAX_STREAMS_PER_CONNECTION,
} from "../grpc/limits.ts";
import { addReflection, REFLECTION_ACCESS } from "../grpc/reflection.ts";
import type { Logger } from "../log.ts";
import { createMetrics, type Metrics } from "../telemetry/metrics.ts";
import { RotatingServerCredentials } from "../tls/server-credentials.ts";
import { clientCertificates, openServerTls } from "../tls/service-tls.ts";
import type { TlsSource } from "../tls/tls-source.ts";
import { startManagement } from "./management.ts";
import { portError } from "./port-error.ts";

export interface ServerOptions {
  readonly services: readonly BoundService[];
  readonly config: ServiceValues;
  readonly log: Logger;
  /** Name of the service in the mesh, which its development certificate and its figures bear. @default "persona-mesh" */
  readonly name?: string;
  /** The service's instruments, shown on the management port with the server's own. @default the server's own alone */
  readonly metrics?: Metrics;
  /** How errors of other packages become reasons; tried in order. */
  readonly errorMappers?: readonly ErrorMapper[];
  /**
   * Calls are refused with NOT_READY until this resolves and the issuer's keys are there; the ports are open from the
   * start. Its failure is the caller's to handle. @default ready at once
   */
  readonly ready?: Promise<unknown>;
  /**
   * Whether what the service cannot do without is there, such as its database; looked at every second. While it is not, the
   * server says that it is not ready, so that calls go elsewhere; those that come all the same are tried. @default always
   */
  readonly isFit?: () => boolean;
  /** Whether this process can do its work at all; while it cannot, liveness says that it needs a new start. @default always */
  readonly isAlive?: () => boolean;
}

/** How often {@link ServerOptions.isFit} is asked. Milliseconds. */
const FITNESS_INTERVAL_MS = 1_000;

/** A service with its implementation; made by {@link bindService}, which checks that they fit. */
export interface BoundService {
  readonly service: DescService;
  readonly implementation: ServiceImplementation<DescService>;
}

export function bindService<Service extends DescService>(
  service: Service,
  implementation: ServiceImplementation<Service>,
): BoundService {
  return { service, implementation: implementation as unknown as ServiceImplementation<DescService> };
}

export interface RunningServer {
  /** As a client on this machine dials it. */
  readonly address: string;
  readonly port: number;
  readonly managementPort: number;
  /** Calls whose handlers run now. */
  readonly runningCalls: number;
  /**
   * Shut down: not ready, NOT_SERVING, new calls refused with DRAINING; running calls get `drainSeconds`, then end with
   * DRAINING. Every further call gives the same promise.
   */
  close(): Promise<void>;
  /** End everything now. */
  kill(): Promise<void>;
}

/** `starting` until ready, then `serving`; `draining` refuses calls while running ones end; `closed` has no ports. */
type Phase = "starting" | "serving" | "draining" | "closed";

/**
 * Start a gRPC server with everything that each service has: authentication and permissions, deadlines, errors with
 * reasons, a log line per call, health, reflection, a management port, drain.
 *
 * @throws ServiceError CONFIG_INVALID, PORT_IN_USE
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { config, log, services, name = "persona-mesh" } = options;
  checkServiceConfig(config);
  let phase: Phase = "starting";

  const keys = await openKeys(config, log);
  const health = createHealth(services.map(({ service }) => service.typeName));
  const hasReflection = config.reflection ?? config.environment === "development";
  const metrics = options.metrics ?? (await createMetrics(name, log));
  const guard = new CallGuard({
    access: new Map<string, Access>([
      ...services.flatMap(({ service }) => [...declaredAccess(service)]),
      ...health.access,
      ...(hasReflection ? REFLECTION_ACCESS : []),
    ]),
    authenticate: createAuthenticator(
      createTokenVerifier(keys, { issuer: config.authIssuer, audience: config.authAudience }),
      config.trustDomain,
    ),
    log,
    meter: metrics.meter,
    mappers: options.errorMappers ?? [],
    deadlines: {
      unaryDefaultMs: config.unaryDefaultSeconds * 1000,
      unaryMaxMs: config.unaryMaxSeconds * 1000,
      streamDefaultMs: config.streamDefaultSeconds * 1000,
      streamMaxMs: config.streamMaxSeconds * 1000,
    },
    maxCalls: config.maxCalls,
    closed: () =>
      phase === "serving"
        ? undefined
        : phase === "starting"
          ? new ServiceError("NOT_READY", "the service is starting")
          : draining(),
  });

  const server = new Server({
    interceptors: [guard.interceptor],
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_concurrent_streams": MAX_STREAMS_PER_CONNECTION,
    "grpc.max_connection_age_ms": MAX_CONNECTION_AGE_MS,
    "grpc.max_connection_idle_ms": MAX_CONNECTION_IDLE_MS,
    "grpc.keepalive_time_ms": KEEPALIVE_TIME_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    // Nothing reads channelz, and it costs bookkeeping per call.
    "grpc.enable_channelz": 0,
  });
  for (const { service, implementation } of services) {
    server.addService(serverDefinition(service), serverHandlers(service, implementation, guard));
  }
  health.addTo(server);
  if (hasReflection)
    await addReflection(
      server,
      services.map(({ service }) => service),
    );

  const isFit = options.isFit ?? (() => true);
  let wasFit = true;
  const fitness = setInterval(() => {
    if (phase !== "serving" || isFit() === wasFit) return;
    wasFit = !wasFit;
    health.set(wasFit);
    log.warn({ fit: wasFit }, wasFit ? "fit to serve again" : "not fit to serve");
  }, FITNESS_INTERVAL_MS);
  fitness.unref();
  const tls = await openServerTls(config, name, log);
  if (tls !== undefined) showExpiry(tls, metrics);
  const port = await bind(server, config, tls);
  const address = `${dialable(config.grpcHost)}:${port}`;
  const management = await startManagement(config.managementHost, config.managementPort, {
    alive: options.isAlive ?? (() => true),
    ready: () => phase === "serving" && isFit(),
    describe: () => (phase !== "serving" ? phase : isFit() ? "ready" : "unfit"),
    metrics: () => metrics.text(),
  }).catch((error: unknown) => {
    clearInterval(fitness);
    keys.close();
    tls?.close();
    server.forceShutdown();
    throw error;
  });

  const serve = () => {
    if (phase !== "starting") return;
    phase = "serving";
    wasFit = isFit();
    health.set(wasFit);
    log.info({ address, port, managementPort: management.port }, "serving");
  };
  if (options.ready === undefined && keys.ready === undefined) serve();
  else Promise.all([options.ready, keys.ready]).then(serve, () => {});

  const kill = async () => {
    phase = "closed";
    clearInterval(fitness);
    keys.close();
    tls?.close();
    server.forceShutdown();
    await management.close();
  };
  const drain = async () => {
    phase = "draining";
    health.set(false);
    log.info({ runningCalls: guard.runningCalls, drainSeconds: config.drainSeconds }, "draining");
    await within(config.drainSeconds * 1000, guard.idle());
    if (guard.runningCalls > 0) log.warn({ runningCalls: guard.runningCalls }, "drain time is up; ending calls");
    guard.endAll(draining());
    await within(HANDLER_GRACE_MS, guard.idle());
    if (guard.runningCalls > 0) log.error({ runningCalls: guard.runningCalls }, "handlers ignore their signal");
    // Lets the last statuses out; a client that reads none of them must not hold up the exit.
    await within(HANDLER_GRACE_MS, new Promise<void>((resolve) => server.tryShutdown(() => resolve())));
    await kill();
    log.info("closed");
  };
  let closing: Promise<void> | undefined;

  return {
    address,
    port,
    managementPort: management.port,
    get runningCalls() {
      return guard.runningCalls;
    },
    close: () => {
      closing ??= drain();
      return closing;
    },
    kill,
  };
}

function draining(): ServiceError {
  return new ServiceError("DRAINING", "the server is shutting down");
}

async function bind(server: Server, config: ServiceValues, tls: TlsSource | undefined): Promise<number> {
  const credentials =
    tls === undefined
      ? ServerCredentials.createInsecure()
      : new RotatingServerCredentials(tls, clientCertificates(config));
  const host = config.grpcHost.includes(":") ? `[${config.grpcHost}]` : config.grpcHost;
  return new Promise((resolve, reject) => {
    server.bindAsync(`${host}:${config.grpcPort}`, credentials, (error, port) => {
      if (error === null) resolve(port);
      else reject(portError(error, "grpcPort", config.grpcHost, config.grpcPort));
    });
  });
}

/** When the certificate runs out, for an alert before it does. */
function showExpiry(tls: TlsSource, { meter }: Metrics): void {
  const gauge = meter.createObservableGauge("persona.tls.certificate.expiry", {
    description: "When the server's certificate expires, in seconds since the epoch.",
    unit: "s",
  });
  gauge.addCallback((result) => {
    const { cert } = tls.current;
    if (cert !== undefined) result.observe(new X509Certificate(cert).validToDate.getTime() / 1000);
  });
}

/** A wildcard address is reached through this machine's own. */
function dialable(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return host.includes(":") ? `[${host}]` : host;
}

/** Wait for something, but no longer than this. */
async function within(milliseconds: number, something: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  });
  await Promise.race([something, timeout]);
  clearTimeout(timer);
}
