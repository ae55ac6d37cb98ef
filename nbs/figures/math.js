// The book's formulas, in float64: one list of numbers per row.
export const sum = v => v.reduce((a, b) => a + b, 0)
export const argmax = v => v.indexOf(Math.max(...v))

/** exp(x) / sum(exp(x)), with the maximum out. */
export function softmax(x) {
  const m = Math.max(...x), e = x.map(v => Math.exp(v - m)), s = sum(e)
  return e.map(v => v / s)
}

export function logsumexp(x) {
  const m = Math.max(...x)
  return m + Math.log(sum(x.map(v => Math.exp(v - m))))
}

export function logSoftmax(x) {
  const m = Math.max(...x), l = Math.log(sum(x.map(v => Math.exp(v - m))))
  return x.map(v => v - m - l)
}

/** Minus the mean of one log-probability per row. */
export const nll = (rows, target) => -sum(rows.map((row, i) => row[target[i]])) / rows.length
export const crossEntropy = (rows, target) => nll(rows.map(logSoftmax), target)

/** The derivative of `crossEntropy` by the scores: (softmax − one-hot) / rows. */
export const crossEntropyGrad = (rows, target) =>
  rows.map((row, i) => softmax(row).map((p, j) => (p - (j === target[i])) / rows.length))

/** The same for one score, by taking it a little up and a little down. */
export function finiteDifference(row, target, j, step = 1e-4) {
  const moved = by => crossEntropy([row.map((v, k) => k === j ? v + by : v)], [target])
  return (moved(step) - moved(-step)) / (2 * step)
}
