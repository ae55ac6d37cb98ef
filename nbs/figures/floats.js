// Numbers of 16 and 32 bits, rounded as PyTorch rounds them. Its 16-bit types compute in float32 and round the result.
const view = new DataView(new ArrayBuffer(4))

/** Round to the nearest number with `bits` binary digits, to the even one of two; exponents from `low` to `high`. */
function rounder(bits, low, high) {
  return x => {
    const f = Math.fround(x)
    if (!Number.isFinite(f) || f === 0) return f
    view.setFloat32(0, f)
    const exponent = Math.max(low, (view.getUint32(0) >>> 23 & 255) - 127), ulp = 2 ** (exponent - bits + 1)
    const n = f / ulp, below = Math.floor(n), rest = n - below
    const whole = rest > .5 || (rest === .5 && below % 2 !== 0) ? below + 1 : below
    return Math.abs(whole * ulp) >= 2 ** (high + 1) ? Math.sign(f) * Infinity : whole === 0 ? f * 0 : whole * ulp
  }
}

export const TYPES = {float16: rounder(11, -14, 15), bfloat16: rounder(8, -126, 127), float32: Math.fround}

/** Four ways to a log-softmax of the scores `x`, each step rounded to a type: lists of [name, numbers]; the last step is the answer. */
export function versions(x, type) {
  const round = TYPES[type], each = f => v => v.map(n => round(f(n)))
  const exp = each(Math.exp), log = each(Math.log), minus = (v, n) => each(a => a - n)(v)
  const sum = v => round(v.reduce((a, b) => Math.fround(a + b)))
  const m = Math.max(...x), e = exp(x), s = sum(e), q = each(a => a / s)(e), l = log([s])[0]
  const z = minus(x, m), ez = exp(z), sz = sum(ez), lz = log([sz])[0], lse = round(m + lz)
  return [
    ['1 as the words say', [['exp', e], ['sum', [s]], ['exp/sum', q], ['log', log(q)]]],
    ['2 log of a quotient', [['exp', e], ['sum', [s]], ['log', [l]], ['x − log', minus(x, l)]]],
    ['3 maximum out', [['z', z], ['exp z', ez], ['sum', [sz]], ['log', [lz]], ['z − log', minus(z, lz)]]],
    ['4 x − logsumexp(x)', [['z', z], ['exp z', ez], ['sum', [sz]], ['max + log', [lse]], ['x − that', minus(x, lse)]]]]
}
