export {
  CHECK_NAMES,
  CheckFailure,
  type CheckName,
  type CheckResult,
  type Figures,
  type VerifyProgress,
} from "./check.ts";
export { type SteeringSelfTest, steeringSelfTest } from "./steering-self-test.ts";
export { type VerifyOptions, type VerifyReport, verifyPackage } from "./verify-package.ts";
