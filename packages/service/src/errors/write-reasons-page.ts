import { writeFileSync } from "node:fs";
import { renderReasonsPage } from "./reasons-page.ts";

// Run by `npm run docs:errors`; a test fails when the page in docs/ differs.
writeFileSync(new URL("../../../../docs/errors.md", import.meta.url), renderReasonsPage());
