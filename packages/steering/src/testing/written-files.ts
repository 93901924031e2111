import reference from "../fixtures/file.json" with { type: "json" };
import { PRODUCERS } from "../formats/producer.ts";
import { writeGguf } from "../formats/write-gguf.ts";
import { writeSafetensors } from "../formats/write-safetensors.ts";
import { decodeVector, type VectorVersion } from "../vector-file.ts";

/** A version of 4 layers of 24, 12 wide, that the safetensors library wrote. */
export function writtenVersion(): VectorVersion {
  return decodeVector(Uint8Array.from(Buffer.from(reference.file, "base64")));
}

/** Our exports of it, which tools/control-vectors/make.py reads with the libraries of others. */
export const WRITTEN: readonly { readonly name: string; readonly write: () => Uint8Array }[] = [
  ...PRODUCERS.map((producer) => ({
    name: `${producer}.gguf`,
    write: () => writeGguf(writtenVersion(), { producer, modelHint: "llama" }),
  })),
  { name: "plain.safetensors", write: () => writeSafetensors(writtenVersion(), { modelHint: "llama" }) },
];
