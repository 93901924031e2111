import type { DescEnum } from "@bufbuild/protobuf";

/** An enum value as people write it: "ADD" for MODE_ADD. A value that this client does not know keeps its number. */
export function enumName(schema: DescEnum, value: number): string {
  return schema.value[value]?.localName ?? String(value);
}
