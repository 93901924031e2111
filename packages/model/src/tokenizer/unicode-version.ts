/*
 * The reference's patterns know Unicode 16 and its normal forms Unicode 9, this engine's both know Unicode 17. The lists
 * were found by trying all code points in both.
 */

/** Code points that Unicode 17 assigned, in hexadecimal. */
const NEW_IN_17 = `
088f 0c5c 0cdc 1acf-1add 1ae0-1aeb 20c1 2b96 a7ce-a7cf a7d2 a7d4 a7f1 fbc3-fbd2 fd90-fd91 fdc8-fdce
10940-10959 10ec5-10ec7 10ed0-10ed8 10efa-10efb 11b60-11b67 11db0-11ddb 11de0-11de9 16ea0-16eb8 16ebb-16ed3
16ff2-16ff6 187f8-187ff 18d09-18d1e 18d80-18df2 1ccfa-1ccfc 1ceba-1ced0 1cee0-1cef0 1e6c0-1e6de 1e6e0-1e6f5
1e6fe-1e6ff 1f6d8 1f777-1f77a 1f8d0-1f8d8 1fa54-1fa57 1fa8a 1fa8e 1fac8 1facd 1faea 1faef 1fbfa 2b73a-2b73f
2cea2-2cead 323b0-33479
`;

/** A small letter in Unicode 16, another letter in 17. */
const MOVED = "\u0295";

/** Unassigned in both, one for each length in UTF-16. */
const UNASSIGNED = ["\u0378", "\u{e0fff}"] as const;

const DIFFERENT = new RegExp(`[${MOVED}${ranges(NEW_IN_17)}]`, "gu");

/** `text` with each character that came with Unicode 17 as one of the same length that belongs to no category. */
export function asReferenceSees(text: string): string {
  return text.replace(DIFFERENT, (character) => {
    if (character === MOVED) return "\u0250";
    return character.length === 1 ? UNASSIGNED[0] : UNASSIGNED[1];
  });
}

/** Code points that decompose, compose or change places with their neighbours only since Unicode 9. */
const INERT_IN_9 = `
7fd 897-89f 8ca-8d3 9fe c3c d3b-d3c eba 1715 1abf-1add 1ae0-1aeb 1df6-1dfa 32ff a7f1-a7f4 a82c ab69 105c9
105d2 105da 105e4 10781-10785 10787-107b0 107b2-107ba 10d24-10d27 10d69-10d6d 10eab-10eac 10efa-10efb
10efd-10eff 10f46-10f50 10f82-10f85 11070 1133b 11382-11385 1138b 1138e 11390-11391 113b8 113bb 113c2 113c5
113c7-113c9 113ce-113d0 1145e 11839-1183a 11930 11935 11938 1193d-1193e 11943 119e0 11a34 11a47 11a99 11d42
11d44-11d45 11d97 11f41-11f42 1611e-16129 1612f 16d63 16d67-16d6a 16ff0-16ff1 1ccd6-1ccf9 1e030-1e06d 1e08f
1e130-1e136 1e2ae 1e2ec-1e2ef 1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5 1f16c 1fbf0-1fbf9
`;

const INERT = new RegExp(`([${ranges(INERT_IN_9)}]+)`, "u");

export type NormalForm = "NFC" | "NFD" | "NFKC" | "NFKD";

/** The normal form of `text`, in which characters that the reference does not know stay as they are. */
export function normalizeAsReference(text: string, form: NormalForm): string {
  if (!INERT.test(text)) return text.normalize(form);
  return text
    .split(INERT)
    .map((stretch, i) => (i % 2 === 0 ? stretch.normalize(form) : stretch))
    .join("");
}

/** Code points in hexadecimal, alone or from-to, as they are written within a class of a pattern. */
function ranges(list: string): string {
  return list
    .trim()
    .replaceAll(/[0-9a-f]+/g, (code) => `\\u{${code}}`)
    .replaceAll(/\s+/g, "");
}
