import { loadPackage, loadTokenizer } from "@persona-mesh/model";
import { readDesk } from "../../../demo/src/desk.ts";

/** As a desk samples. */
export const DESK_TEMPERATURE = 0.6;

/** What is written at the demo's support desk, as token ids of the starter model, over and over. @param model - its package */
export async function deskCorpus(model: string): Promise<number[]> {
  const { tokenizer } = await loadTokenizer(await loadPackage(model));
  const { baseline } = readDesk();
  return baseline.flatMap(({ prompt, response }) => tokenizer.encode(`${prompt} ${response} `));
}
