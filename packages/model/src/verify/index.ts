export { CHECK_NAMES, type CheckName, type CheckResult, type Figures, type VerifyProgress } from "./check.ts";
export { type VerifyOptions, type VerifyReport, verifyPackage } from "./verify-package.ts";
