export { blocksOf, dequantizeRows, type QuantizedRows, type QuantizedShape, quantizeRows } from "./quantize-rows.ts";
