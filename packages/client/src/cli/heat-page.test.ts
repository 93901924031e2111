import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { FinishedSchema, GeneratedTokenSchema, GuardCause, StartedSchema } from "@persona-mesh/protocol";
import { describe, expect, it } from "vitest";
import type { Reply } from "../reply.ts";
import { escaped, heatPage } from "./heat-page.ts";
import type { HeatPiece } from "./heat-trace.ts";

const HOSTILE = `</p><script>alert("1")</script><img src=x onerror='alert(2)'>&lt;\u202e\u0007`;

interface PageChanges {
  readonly prompt?: string;
  readonly texts?: readonly string[];
  readonly name?: string;
  readonly finished?: MessageInitShape<typeof FinishedSchema>;
}

function page({ prompt = "Hi", texts = ["Hello", " you"], name = "acme/cheerful", finished = {} }: PageChanges = {}) {
  const pieces: HeatPiece[] = texts.map((text, index) => ({
    text,
    projection: index / 4 - 0.25,
    tokens: [create(GeneratedTokenSchema, { id: index, logProb: -0.5, entropy: 1.25 + index })],
  }));
  const reply: Reply = {
    text: texts.join(""),
    tokens: pieces.flatMap(({ tokens }) => tokens),
    started: create(StartedSchema, {
      requestId: name,
      seed: 7n,
      persona: { name, revision: "r1", versionDigests: ["d1"], doses: [{ layer: 3, dose: 0.35 }] },
    }),
    switches: [],
    guardEvents: [],
    promptTokens: [],
    finished: create(FinishedSchema, { promptTokens: 3, completionTokens: texts.length, ...finished }),
    firstTokenMillis: 1,
    totalMillis: 2,
  };
  return heatPage({ prompt, reply, pieces, layer: 3 });
}

/** Tags in their order, after making sure that they are well-formed, closed, and all that has angle brackets. */
function tagsOf(html: string): string[] {
  const body = html.replace(/^<!doctype html>/, "").replace(/<style>[^<]*<\/style>/, "");
  const tag = /<(\/?)([a-z][a-z0-9]*)((?: [a-zA-Z0-9-]+="[^"<>]*")*)(\/?)>/g;
  expect(body.replace(tag, "")).not.toMatch(/[<>]/);
  const open: string[] = [];
  const names: string[] = [];
  for (const [, closes, name, , isEmpty] of body.matchAll(tag)) {
    if (closes) expect(open.pop()).toBe(name);
    else {
      names.push(name as string);
      if (!isEmpty && name !== "meta") open.push(name as string);
    }
  }
  expect(open).toEqual([]);
  return names;
}

describe("whatever others wrote", () => {
  it("is text in the page, in elements and in attributes", () => {
    const harmless = tagsOf(page());
    expect(tagsOf(page({ prompt: HOSTILE, texts: [HOSTILE, `" onclick="x`], name: HOSTILE }))).toEqual(harmless);
    expect(harmless).not.toContain("script");
    expect(harmless).not.toContain("img");
  });

  it("is shown as it is written", () => {
    expect(escaped(`<b>&"'`)).toBe("&lt;b&gt;&amp;&quot;&#39;");
    expect(escaped("a\u202eb\u0007c\nd\te")).toBe("a\ufffdb\u2407c\nd\te");
  });
});

describe("the page", () => {
  it("fetches nothing and runs nothing", () => {
    const html = page();
    expect(html).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
    expect(html).not.toMatch(/https?:|url\(|@import|src=|href=/);
    expect(html).toContain("prefers-color-scheme: dark");
  });

  it("colours each piece, states the scale and the layer, and tells the figures of its tokens", () => {
    const html = page();
    expect(html).toMatch(
      /<span class="against2" title="projection −0.250\ntoken 1 · entropy 1.25 · log-probability −0.50">Hello</,
    );
    expect(html).toMatch(/<span class="zero" title="projection 0.000\ntoken 2 · entropy 2.25 [^"]*"> you</);
    expect(html).toContain("layer 3");
    for (const shade of ["against4", "against1", "zero", "along1", "along4"])
      expect(html).toContain(`class="${shade}"`);
  });

  it("shows effective alpha over the reply and what the guard did", () => {
    const html = page({
      texts: ["a", "b", "c"],
      finished: {
        alphas: [
          { fromToken: 0, alphaHundredths: 40 },
          { fromToken: 2, alphaHundredths: 30 },
        ],
        guardEvents: [
          {
            afterTokens: 2,
            cause: GuardCause.ENTROPY_LOW,
            entropyRatio: 0.5,
            repetition: 0.25,
            alphaBeforeHundredths: 40,
            alphaAfterHundredths: 30,
          },
        ],
        coherence: { score: 0.75 },
      },
    });
    tagsOf(html);
    expect(html).toMatch(/token 2 · [^"]*alpha 0\.40"/);
    expect(html).toMatch(/token 3 · [^"]*alpha 0\.30"/);
    expect(html).toContain(
      "<li>after 2 tokens: entropy low, alpha 0.40 → 0.30 (entropy ratio 0.50, repetition 0.25)</li>",
    );
    expect(html).toContain(`class="guard"`);
    expect(html).toContain("effective alpha");
    expect(html).toContain("<tr><th>coherence</th><td>0.750</td></tr>");
  });

  it("of a very long reply has no chart", () => {
    expect(page({ texts: ["a"] })).not.toContain("<svg");
    expect(page({ texts: new Array(20_001).fill("a") })).not.toContain("<svg");
    expect(page()).toContain("<svg");
  });
});
