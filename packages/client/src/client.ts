import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CaptureActivationsRequestSchema,
  type CaptureActivationsResponse,
  type GenerateRequestSchema,
  type GetModelResponse,
  InferenceService,
  type LoadedPersona,
  type ScoreRequestSchema,
  type ScoreResponse,
} from "@persona-mesh/protocol";
import { type CallOptions, type Client, createClient } from "@persona-mesh/service/client";
import { channelCredentials, type TlsOptions } from "./channel-credentials.ts";
import { LocalError } from "./local-error.ts";
import { type ChoiceEvent, collectReply, type GenerateEvent, type Reply, ReplyCollector } from "./reply.ts";

export interface InferenceClientOptions {
  /** `host:port`, or any target that gRPC resolves, such as `dns:///workers:7400`. */
  readonly address: string;
  /** TLS; `{}` trusts the system's authorities. Without TLS a token goes to this machine only. @default plain text */
  readonly tls?: TlsOptions;
  /** Bearer token, or where to get one for each call: a function is asked before every call, so that tokens can be renewed. */
  readonly token?: string | (() => string | Promise<string>);
  /** Deadline of calls that set none, in milliseconds. @default 60,000 for unary calls, none for streams */
  readonly timeoutMs?: number;
}

export type GenerateInput = MessageInitShape<typeof GenerateRequestSchema>;
export type ScoreInput = MessageInitShape<typeof ScoreRequestSchema>;
export type CaptureInput = MessageInitShape<typeof CaptureActivationsRequestSchema>;

/** Personas asked for at a time; a tenant with more takes more calls. */
const PERSONAS_PER_PAGE = 500;

/**
 * A worker of the mesh: text, scores, activations.
 *
 * Every call throws a ClientError with code and stable reason, and a LocalError RESPONSE_INVALID where an answer breaks the
 * protocol. One connection is opened with the first call and serves all of them.
 */
export class InferenceClient implements Disposable {
  readonly #service: Client<typeof InferenceService>;

  /** @throws ClientError CONFIG_INVALID when a token would leave this machine without TLS */
  constructor({ address, tls, token, timeoutMs }: InferenceClientOptions) {
    this.#service = createClient(InferenceService, address, channelCredentials(tls), {
      ...(token === undefined ? {} : { token }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(tls?.serverName === undefined ? {} : { serverName: tls.serverName }),
    });
  }

  /**
   * Text as it is made: one `started`, then tokens, persona switches and guard events, then one `finished`. Leaving the loop
   * cancels the call, and frees its row in the worker's batch at the next step.
   *
   * @throws RangeError for a request of several replies: see {@link generateChoices}
   */
  async *generate(request: GenerateInput, call?: CallOptions): AsyncGenerator<GenerateEvent, void, undefined> {
    if (request.n !== undefined && request.n !== 1) throw new RangeError(`generate gives one reply, not ${request.n}`);
    for await (const { event } of this.generateChoices(request, call)) yield event;
  }

  /** All `n` replies to one prompt as they are made, each an event stream of its own as of {@link generate}. */
  async *generateChoices(request: GenerateInput, call?: CallOptions): AsyncGenerator<ChoiceEvent, void, undefined> {
    const last = new Map<number, GenerateEvent["case"]>();
    for await (const { event, choice } of this.#service.generate(request, call)) {
      // An event that a newer worker knows and this client does not.
      if (event.case === undefined) continue;
      const before = last.get(choice);
      const outOfOrder = (event.case === "started") !== (before === undefined) || before === "finished";
      if (outOfOrder)
        throw new LocalError("RESPONSE_INVALID", `the stream has "${event.case}" after "${before ?? ""}"`);
      last.set(choice, event.case);
      yield { choice, event };
    }
    for (let choice = 0; choice < (request.n ?? 1); choice++) {
      const end = last.get(choice);
      if (end !== "finished") throw new LocalError("RESPONSE_INVALID", `the stream ended after "${end ?? "nothing"}"`);
    }
  }

  /**
   * The whole reply with its proof.
   *
   * @param onText - gets the text piece by piece; what it returns is waited for
   */
  generateText(
    request: GenerateInput,
    call?: CallOptions,
    onText?: (text: string) => void | Promise<void>,
  ): Promise<Reply> {
    return collectReply(this.generate(request, call), onText);
  }

  /** All `n` replies to one prompt, in the order of their choices. */
  async generateTexts(request: GenerateInput, call?: CallOptions): Promise<Reply[]> {
    const collectors = Array.from({ length: request.n ?? 1 }, () => new ReplyCollector());
    for await (const { choice, event } of this.generateChoices(request, call)) collectors[choice]?.take(event);
    return collectors.map((collector) => collector.reply());
  }

  /** Log-probabilities of continuations and the mass of token sets, steered and unsteered. */
  score(request: ScoreInput, call?: CallOptions): Promise<ScoreResponse> {
    return this.#service.score(request, call);
  }

  /** Pooled residuals, one answer a sample, in any order. The token needs the role `service`. */
  captureActivations(request: CaptureInput, call?: CallOptions): AsyncIterable<CaptureActivationsResponse> {
    return this.#service.captureActivations(request, call);
  }

  /** What model the worker serves, and how. */
  getModel(call?: CallOptions): Promise<GetModelResponse> {
    return this.#service.getModel({}, call);
  }

  /** Every persona of the caller's tenant that the worker can serve now. */
  async *listLoadedPersonas(call?: CallOptions): AsyncGenerator<LoadedPersona, void, undefined> {
    let pageToken = "";
    do {
      const page = await this.#service.listLoadedPersonas({ pageSize: PERSONAS_PER_PAGE, pageToken }, call);
      yield* page.personas;
      if (page.nextPageToken === pageToken && pageToken !== "") {
        throw new LocalError("RESPONSE_INVALID", "the worker's list of personas does not end");
      }
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
  }

  /** Close the connection; calls that still run fail. */
  close(): void {
    this.#service.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
