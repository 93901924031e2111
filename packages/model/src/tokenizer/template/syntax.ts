import { parse, tokenize } from "@huggingface/jinja";

/*
 * What `@huggingface/jinja` makes of a template's source. Its own declarations do not resolve under Node's module rules, so
 * what we rely on is written down. The library's interpreter is not used: it differs from Jinja in what it prints, in the
 * scope of loops, in white space, in comparisons, and it cannot be stopped.
 */

export type Expression =
  | { type: "Identifier"; value: string }
  | { type: "IntegerLiteral" | "FloatLiteral"; value: number }
  | { type: "StringLiteral"; value: string }
  | { type: "ArrayLiteral" | "TupleLiteral"; value: Expression[] }
  | { type: "ObjectLiteral"; value: Map<Expression, Expression> }
  | { type: "MemberExpression"; object: Expression; property: Expression; computed: boolean }
  | { type: "SliceExpression"; start?: Expression; stop?: Expression; step?: Expression }
  | Call
  | { type: "BinaryExpression"; operator: { value: string }; left: Expression; right: Expression }
  | { type: "UnaryExpression"; operator: { value: string }; argument: Expression }
  | { type: "FilterExpression"; operand: Expression; filter: Filter }
  | { type: "TestExpression"; operand: Expression; negate: boolean; test: { value: string } }
  | { type: "Ternary"; condition: Expression; trueExpr: Expression; falseExpr: Expression }
  /** `lhs if test`; behind `for … in` it filters the items. */
  | { type: "SelectExpression"; lhs: Expression; test: Expression }
  | { type: "KeywordArgumentExpression"; key: { value: string }; value: Expression }
  | { type: "SpreadExpression" | "KeywordSpreadExpression"; argument: Expression };

export interface Call {
  type: "CallExpression";
  callee: Expression;
  args: Expression[];
}

/** A filter's name, or a call of it. */
export type Filter = { type: "Identifier"; value: string } | Call;

/** A name, or a name with a default. */
export type Parameter =
  | { type: "Identifier"; value: string }
  | { type: "KeywordArgumentExpression"; key: { value: string }; value: Expression };

/** Text and `{{ … }}` are expressions that stand among the statements. */
export type Statement =
  | Expression
  | { type: "Comment" | "Break" | "Continue" }
  | { type: "If"; test: Expression; body: Statement[]; alternate: Statement[] }
  | { type: "For"; loopvar: Expression; iterable: Expression; body: Statement[]; defaultBlock: Statement[] }
  | { type: "Set"; assignee: Expression; value: Expression | null; body: Statement[] }
  | { type: "Macro"; name: { value: string }; args: Parameter[]; body: Statement[] }
  | { type: "CallStatement"; call: Call; callerArgs: Parameter[] | null; body: Statement[] }
  | { type: "FilterStatement"; filter: Filter; body: Statement[] };

/**
 * Parse a template with the white space rules that transformers uses.
 *
 * @throws Error of the library's own when it does not parse
 */
export function parseTemplate(source: string): Statement[] {
  return parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })).body as Statement[];
}

export function filterName(filter: Filter): string | undefined {
  if (filter.type === "Identifier") return filter.value;
  return filter.callee.type === "Identifier" ? filter.callee.value : undefined;
}
