// The book's network in the page: load it, start it afresh as PyTorch does, run it, and take the steps of `minibatch.training.train`.
import {crossEntropy, crossEntropyGrad, sum} from './math.js'

const PIXELS = 784, HIDDEN = 50, CLASSES = 10
const here = name => fetch(new URL(name, import.meta.url)).then(r => { if (!r.ok) throw new Error(`${name}: ${r.status}`); return r })
const bytes = text => Int8Array.from(atob(text), c => c.charCodeAt(0))

/** The trained network: weights of 8 bits, times their scale in float32, as site/figures.py has stored them. */
export async function loadNetwork() {
  const {first, last} = await (await here('network.json')).json()
  const weight = ({weight, scale}) => Float64Array.from(bytes(weight), v => Math.fround(v * scale))
  return {w1: weight(first), b1: Float64Array.from(first.bias), w2: weight(last), b2: Float64Array.from(last.bias)}
}

/** 500 digits to train on and 200 kept back: {x, y} each, a picture as 784 numbers from 0 to below 1. */
export async function loadDigits() {
  const packed = (await here('digits.bin')).body.pipeThrough(new DecompressionStream('gzip'))
  const all = new Uint8Array(await new Response(packed).arrayBuffer()), n = all.length / (PIXELS + 1)
  const rows = (from, to) => ({y: Array.from(all.subarray(from, to)),
    x: Array.from({length: to - from}, (_, i) => Float64Array.from(all.subarray(n + (from + i) * PIXELS, n + (from + i + 1) * PIXELS), v => v / 256))})
  return {train: rows(0, 500), kept: rows(500, n)}
}

/** Random numbers of 32 bits, by the Mersenne Twister, as torch.manual_seed starts it. */
function twister(seed) {
  const s = new Uint32Array(624)
  s[0] = seed
  for (let i = 1; i < 624; i++) s[i] = Math.imul(1812433253, s[i - 1] ^ s[i - 1] >>> 30) + i
  let at = 624
  return () => {
    if (at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = s[i] & 0x80000000 | s[(i + 1) % 624] & 0x7fffffff
        s[i] = s[(i + 397) % 624] ^ y >>> 1 ^ (y & 1 ? 0x9908b0df : 0)
      }
      at = 0
    }
    let y = s[at++]
    y ^= y >>> 11
    y ^= y << 7 & 0x9d2c5680
    y ^= y << 15 & 0xefc60000
    return (y ^ y >>> 18) >>> 0
  }
}

/** The numbers that `torch.manual_seed(seed); Model(784, 50, 10)` starts from. */
export function fresh(seed = 1) {
  const next = twister(seed)
  const uniform = (n, inputs) => {
    const end = Math.fround(1 / Math.sqrt(inputs)), width = Math.fround(end + end)
    return Float64Array.from({length: n}, () => Math.fround((next() & 0xffffff) * 2 ** -24 * width - end))
  }
  return {w1: uniform(HIDDEN * PIXELS, PIXELS), b1: uniform(HIDDEN, PIXELS), w2: uniform(CLASSES * HIDDEN, HIDDEN), b2: uniform(CLASSES, HIDDEN)}
}

const inked = x => { const at = []; x.forEach((v, i) => { if (v) at.push(i) }); return at }

/** One picture through the network: `z` before the ReLU, `h` after it, the ten `scores`. */
export function forward({w1, b1, w2, b2}, x, ink = inked(x)) {
  const z = Array.from(b1, (b, j) => { let s = b; for (const i of ink) s += w1[j * PIXELS + i] * x[i]; return s })
  const h = z.map(v => Math.max(v, 0))
  return {z, h, scores: Array.from(b2, (b, k) => b + sum(h.map((v, j) => w2[k * HIDDEN + j] * v)))}
}

/** A batch forwards and backwards: its mean loss, its scores, and the derivative of the loss by every parameter. */
export function blame(net, rows, target) {
  const ink = rows.map(inked), runs = rows.map((x, r) => forward(net, x, ink[r]))
  const scores = runs.map(run => run.scores), at = crossEntropyGrad(scores, target)
  const grad = Object.fromEntries(Object.entries(net).map(([name, p]) => [name, new Float64Array(p.length)]))
  rows.forEach((x, r) => {
    const {z, h} = runs[r], atHidden = new Float64Array(HIDDEN)
    at[r].forEach((g, k) => {
      grad.b2[k] += g
      for (let j = 0; j < HIDDEN; j++) { grad.w2[k * HIDDEN + j] += g * h[j]; atHidden[j] += g * net.w2[k * HIDDEN + j] }
    })
    for (let j = 0; j < HIDDEN; j++) {
      if (z[j] <= 0) continue
      grad.b1[j] += atHidden[j]
      for (const i of ink[r]) grad.w1[j * PIXELS + i] += atHidden[j] * x[i]
    }
  })
  return {loss: crossEntropy(scores, target), scores, grad}
}

/** Every parameter a little against its derivative. */
export function nudge(net, grad, lr) {
  for (const name in net) net[name].forEach((_, i, p) => { p[i] -= lr * grad[name][i] })
}

/** The share of rows whose highest score is at their label. */
export function accuracy(scores, target) {
  return scores.filter((row, i) => row.indexOf(Math.max(...row)) === target[i]).length / target.length
}
