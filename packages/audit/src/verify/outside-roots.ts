import { type RootBody, rootHash } from "../root.ts";
import { decodeRootLine } from "../root-file.ts";
import type { Problems } from "./problem.ts";

/** The newest of the roots that are kept outside. */
export interface OutsideRoots {
  readonly newest: RootBody | undefined;
  /** Numbers of the export's roots that are kept outside too, with the same body. */
  readonly confirmed: ReadonlySet<bigint>;
}

/**
 * Compare the roots of an export with those that are kept outside the database.
 *
 * @param lines - of the file, in its order
 * @param inExport - hash of the body of each root in the export, by number
 */
export async function compareOutside(
  lines: AsyncIterable<string> | Iterable<string>,
  inExport: ReadonlyMap<bigint, string>,
  problems: Problems,
): Promise<OutsideRoots> {
  const confirmed = new Set<bigint>();
  let newest: RootBody | undefined;
  let newestHash = "";
  let line = 0;
  for await (const text of lines) {
    line++;
    if (text === "") continue;
    const root = decodeRootLine(text);
    if (root === undefined) {
      problems.add({ reason: "ROOT_MALFORMED", message: `line ${line} of the roots kept outside is no root` });
      continue;
    }
    const { number, body, content } = root;
    const hash = rootHash(body);
    if (newest !== undefined && number === newest.number && hash !== newestHash) {
      problems.add(forked(number, "among those kept outside"));
    } else if (newest !== undefined && (number < newest.number || !follows(content, newest, newestHash))) {
      problems.add(unlinked(number, newest.number));
    }
    const exported = inExport.get(number);
    if (exported === hash) confirmed.add(number);
    else if (exported !== undefined) problems.add(forked(number, "in the export and outside"));
    if (newest === undefined || number > newest.number) {
      newest = content;
      newestHash = hash;
    }
  }
  return { newest, confirmed };
}

/** A root that comes right after another names it. Between others no link can be checked. */
function follows(root: RootBody, before: RootBody, hashBefore: string): boolean {
  return root.number !== before.number + 1n || root.previousRoot === hashBefore;
}

function unlinked(root: bigint, before: bigint) {
  const message = `root ${root}, kept outside, does not follow root ${before}, after which it stands`;
  return { reason: "ROOT_UNLINKED", root, message } as const;
}

function forked(root: bigint, where: string) {
  return { reason: "ROOT_FORKED", root, message: `there are two roots ${root} ${where}` } as const;
}
