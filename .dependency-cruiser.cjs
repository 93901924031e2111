const { default: SwcVisitor } = require("@swc/core/Visitor.js");

// The visitor that dependency-cruiser walks swc's trees with does not know `using` declarations yet.
const visitStatement = SwcVisitor.prototype.visitStatement;
SwcVisitor.prototype.visitStatement = function (statement) {
  if (statement.type !== "UsingDeclaration") return visitStatement.call(this, statement);
  statement.decls = this.visitVariableDeclarators(statement.decls);
  return statement;
};

/** The import rules of the design: services know packages only, and each package knows only what it may. */
module.exports = {
  forbidden: [
    {
      name: "services-apart",
      comment: "A service never imports another service: they talk over gRPC.",
      severity: "error",
      from: { path: "^services/([^/]+)/" },
      to: { path: "^services/", pathNot: "^services/$1/" },
    },
    {
      name: "packages-below-services",
      comment: "Packages never reach up into services, what runs them, or the demo.",
      severity: "error",
      from: { path: "^packages/" },
      to: { path: "^(services|deploy|demo|test|bench)/" },
    },
    {
      name: "steering-is-pure",
      comment: "packages/steering is maths: nothing of ours and no I/O.",
      severity: "error",
      from: { path: "^packages/steering/src/", pathNot: "\\.test\\.ts$" },
      to: {
        path: ["^packages/(?!steering/)", "^(node:)?(fs|fs/promises|net|http|https|child_process|worker_threads)$"],
      },
    },
    {
      name: "audit-is-pure",
      comment: "packages/audit verifies what others read and write: no I/O, and nothing of ours but the protocol.",
      severity: "error",
      from: { path: "^packages/audit/src/", pathNot: "\\.test\\.ts$" },
      to: {
        path: [
          "^packages/(?!audit/|protocol/)",
          "^(node:)?(fs|fs/promises|net|http|https|child_process|worker_threads)$",
        ],
      },
    },
    {
      name: "onnx-knows-no-models",
      comment: "packages/onnx knows graphs and the runtime, not what they compute.",
      severity: "error",
      from: { path: "^packages/onnx/" },
      to: { path: "^packages/(?!onnx/)" },
    },
    {
      name: "who-touches-onnx",
      comment: "Only the worker and the model importer run graphs.",
      severity: "error",
      from: { pathNot: "^(packages/onnx|packages/model|services/inference|bench)/" },
      to: { path: "^packages/onnx/" },
    },
    { name: "no-circular", severity: "error", from: {}, to: { circular: true } },
    { name: "not-to-unresolvable", severity: "error", from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default"],
      extensions: [".ts", ".js", ".cjs", ".json"],
    },
    // TypeScript 7 has no JavaScript API yet, so the sources are read by swc.
    parser: "swc",
  },
};
