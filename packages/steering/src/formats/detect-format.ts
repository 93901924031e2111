import { GGUF_MAGIC } from "./gguf-container.ts";
import type { ControlVectorFormat } from "./producer.ts";
import { headerLengthOf, LENGTH_BYTES } from "./read-safetensors.ts";
import { refuse } from "./refuse.ts";

/**
 * What a file is, by its content: names lie, and so do the types that clients state.
 *
 * @throws SteeringError VECTOR_PICKLE_REFUSED for pickles and for containers of them; VECTOR_FORMAT_UNKNOWN
 */
export function detectFormat(bytes: Uint8Array): ControlVectorFormat {
  if (startsWith(bytes, ascii(GGUF_MAGIC))) return "gguf";
  // Before the pickles: a safetensors header of 640 bytes begins with 80 02, as a pickle of protocol 2 does.
  const headerBytes = headerLengthOf(bytes);
  if (bytes[LENGTH_BYTES] === OPENING_BRACE && headerBytes <= bytes.length - LENGTH_BYTES) return "safetensors";
  const pickle = pickleName(bytes);
  if (pickle !== undefined) {
    const why = `is ${pickle}, which is read by running the program inside it, so none is read here`;
    const instead = "Load it where you trust it, and save its tensors as direction.<block> with safetensors or gguf";
    refuse("VECTOR_PICKLE_REFUSED", `${why}. ${instead}`, { format: pickle });
  }
  const other = OTHERS.find(({ magic }) => startsWith(bytes, magic))?.name ?? "neither GGUF nor safetensors";
  return refuse("VECTOR_FORMAT_UNKNOWN", `is ${other}; directions are read from GGUF and safetensors`);
}

const OPENING_BRACE = 0x7b;

/** How much of a container is searched for what it holds; the first entry's name and a header lie within. */
const SEARCHED_BYTES = 4096;

const ZIP = [0x50, 0x4b, 0x03, 0x04];
const NUMPY = [0x93, ...ascii("NUMPY")];
const PICKLE_PROTOCOL = 0x80;
const NEWEST_PROTOCOL = 5;

/** The number that torch.save wrote before it wrote ZIP archives: itself a pickle, of the long 0x1950a86a20f9469cfc6c. */
const LEGACY_TORCH = [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/** Containers that hold no directions as they are, and may hold a pickle. */
const OTHERS: readonly { readonly name: string; readonly magic: readonly number[] }[] = [
  { name: "a NumPy array", magic: NUMPY },
  { name: "a ZIP archive", magic: ZIP },
  { name: "an HDF5 file", magic: [0x89, ...ascii("HDF")] },
  { name: "compressed (gzip)", magic: [0x1f, 0x8b] },
  { name: "compressed (zlib), as joblib writes", magic: [0x78] },
  { name: "compressed (bzip2)", magic: ascii("BZh") },
  { name: "compressed (xz)", magic: [0xfd, ...ascii("7zXZ")] },
  { name: "compressed (LZMA)", magic: [0x5d, 0x00, 0x00] },
  { name: "compressed (LZ4)", magic: [0x04, 0x22, 0x4d, 0x18] },
  { name: "compressed (Zstandard)", magic: [0x28, 0xb5, 0x2f, 0xfd] },
];

/** What kind of pickle it is; undefined for none. */
function pickleName(bytes: Uint8Array): string | undefined {
  if (startsWith(bytes, LEGACY_TORCH)) return "a pickle of PyTorch's legacy format (.pt, .pth, .bin)";
  const head = bytes.subarray(0, SEARCHED_BYTES);
  if (startsWith(bytes, ZIP) && contains(head, "data.pkl")) return "a pickle in a PyTorch archive (.pt, .pth, .bin)";
  if (startsWith(bytes, NUMPY) && /'descr':\s*'?\[?.*\|O/s.test(latin1(head)))
    return "a pickle in a NumPy object array";
  const [first = 0, second = 0] = bytes;
  if (first === PICKLE_PROTOCOL && second >= 2 && second <= NEWEST_PROTOCOL) {
    return contains(head, "joblib") ? "a joblib pickle" : "a Python pickle";
  }
  // Protocols 0 and 1 have no mark: they begin with a mark, a list, a dict or a global, and end with a stop.
  const opensText = /^(\((dp|lp|[cidltSV])|\]q|\}q|c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n)/.test(latin1(head));
  return opensText && bytes.at(-1) === 0x2e ? "a Python pickle of an old protocol" : undefined;
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, i) => bytes[i] === byte);
}

function contains(head: Uint8Array, text: string): boolean {
  return latin1(head).includes(text);
}

function latin1(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function ascii(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0));
}
