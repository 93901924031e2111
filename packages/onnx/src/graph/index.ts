export * from "./graph-builder.ts";
export * from "./graph-outline.ts";
