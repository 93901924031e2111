export * from "./graph-builder.ts";
