export {
  type Acquisition,
  type ComposedRows,
  type Dropped,
  type Lease,
  SteeringTable,
  type SteeringTableFigures,
  type SteeringTableShape,
} from "./steering-table.ts";
