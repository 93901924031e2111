import type { LoadPlan, LoadReport } from "./load-plan.ts";
import { Random } from "./random.ts";
import { TenantCaller } from "./tenant-caller.ts";

/** The process that makes a load: it gets a plan, sends a report, and ends. Apart from the worker, so that both see the truth. */

process.once("message", (plan: LoadPlan) => {
  void run(plan).then((report) => {
    process.send?.(report, () => process.disconnect());
  });
});

async function run(plan: LoadPlan): Promise<LoadReport> {
  using resources = new DisposableStack();
  const callers = plan.tenants.map((tenant, index) =>
    resources.use(new TenantCaller(plan, tenant, new Random(plan.seed + index))),
  );
  const over = AbortSignal.timeout(plan.seconds * 1000);
  const started = performance.now();
  await Promise.all(callers.map((caller) => caller.run(over)));
  const seconds = (performance.now() - started) / 1000;
  return { seconds, tenants: callers.map((caller) => caller.report()) };
}
