// Chapters 07 and 15: paths down a valley that is steep across and shallow along; `<mb-valley noise>` has batches instead of a momentum.
import {axes, button, define, h, handle, once, predict, show, slider, speaker, stage} from './figure.js'

export const START = [-9, 1.3], STEEP = 50, STEPS = 60

/** The height of the valley, and its slope. */
export const height = ([x, y]) => (x * x + STEEP * y * y) / 2
const slope = ([x, y]) => [x, STEEP * y]

/** Steps from `start`: v ← momentum·v + slope (and noise), p ← p − lr·v. The places, the start first. */
export function descend({start = START, lr, momentum = 0, steps = STEPS, noise = () => [0, 0]}) {
  const path = [[...start]]
  let v = [0, 0]
  for (let i = 0; i < steps; i++) {
    const p = path.at(-1), g = slope(p), n = noise(i)
    v = v.map((old, k) => momentum * old + g[k] + n[k])
    path.push(p.map((old, k) => old - lr * v[k]))
  }
  return path
}

/** Standard normal pairs that are the same each time, so that only what one drags moves. */
function normals(n) {
  let seed = 1
  const next = () => { seed = seed * 16807 % 2147483647; return seed / 2147483647 }
  return Array.from({length: n}, () => { const r = Math.sqrt(-2 * Math.log(next())), a = 2 * Math.PI * next(); return [r * Math.cos(a), r * Math.sin(a)] })
}

const RUNS = 100, SHOWN = 5, SPREAD = 30

define('valley', 'Drag the start or a slider: the sixty steps down the valley follow.', (panel, element) => {
  const noisy = element.hasAttribute('noise'), random = normals(RUNS * STEPS)
  const state = {start: [...START], lr: .035, momentum: .8, bs: 50}
  let wide = 600, scale
  const plot = stage('A valley seen from above, and paths down it', 300, w => { wide = w; update() })
  const rings = h('path', {class: 'ring'}), star = h('path', {class: 'star'}), runs = Array.from({length: noisy ? SHOWN : 0}, () => h('path', {class: 'run'}))
  const cloud = h('path', {class: 'dots c1'}), plain = h('path', {class: 'curve thin'}), heavy = h('path', {class: 'curve thin c1'})
  const steps = [h('path', {class: 'dots'}), h('path', {class: 'dots c1'})]
  plot.classList.add('clip')
  plot.append(rings, ...runs, plain, ...(noisy ? [] : [heavy, steps[1]]), steps[0], cloud, star)
  const knob = handle(plot, {label: 'Start', min: -10, max: 2, drag: (px, py) => move(scale.x(px), scale.y(py)),
    nudge: (dx, dy) => move(state.start[0] + dx / 4, state.start[1] + dy / 20)})

  function move(x, y) {
    state.start = [Math.max(-10, Math.min(2, x)), Math.max(-1.5, Math.min(1.5, y))]
    update()
  }

  const sliders = [
    slider({label: 'learning rate', min: .001, max: .045, step: .001, key: .001, value: .035, text: v => show(v, 3), input: v => { state.lr = v; update() }}),
    noisy ? slider({label: 'batch size', values: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], value: 50, text: String, input: v => { state.bs = v; update() }})
      : slider({label: 'momentum', min: 0, max: .98, step: .01, key: .01, value: .8, input: v => { state.momentum = v; update() }})]
  sliders[1].classList.add('answer')
  panel.append(h('div', {class: 'row'}, ...sliders, button('Start again', () => {
    Object.assign(state, {start: [...START], lr: .035, momentum: .8, bs: 50})
    sliders[0].value = .035
    sliders[1].value = noisy ? 50 : .8
    update()
  })), plot)
  const say = speaker(panel)

  const update = once(() => {
    scale = axes(plot, wide, {x: [-10.5, noisy ? 2.5 : 9.5], y: [-1.6, 1.6], xticks: (noisy ? [-10, -8, -6, -4, -2, 0, 2] : [-10, -5, 0, 5]).map(v => [v, show(v, 0)]), yticks: [-1, 0, 1].map(v => [v, show(v, 0)]),
      xlabel: 'first parameter', ylabel: 'second parameter: fifty times as steep', left: 30})
    const {X, Y} = scale, fit = v => Math.max(-2000, Math.min(4000, v))
    const line = path => path.map(([x, y], i) => `${i ? 'L' : 'M'}${fit(X(x)).toFixed(1)} ${fit(Y(y)).toFixed(1)}`).join('')
    const points = path => path.map(([x, y]) => `M${fit(X(x)).toFixed(1)} ${fit(Y(y)).toFixed(1)}h0`).join('')
    rings.setAttribute('d', [1, 4, 10, 20, 40, 65].map(level => {
      const [a, b] = [Math.sqrt(2 * level), Math.sqrt(2 * level / STEEP)], rx = X(a) - X(0), ry = Y(0) - Y(b)
      return `M${X(-a)} ${Y(0)}a${rx} ${ry} 0 1 0 ${2 * rx} 0a${rx} ${ry} 0 1 0 ${-2 * rx} 0`
    }).join(''))
    star.setAttribute('d', `M${X(0) - 7} ${Y(0)}h14M${X(0)} ${Y(0) - 7}v14`)
    const {start, lr, momentum, bs} = state, a = descend({start, lr}), end = a.at(-1)
    plain.setAttribute('d', line(a))
    steps[0].setAttribute('d', points(a))
    knob.place(X(start[0]), Y(start[1]), start[0], `${show(start[0])}, ${show(start[1])}`)
    if (noisy) {
      const ends = Array.from({length: RUNS}, (_, r) => {
        const path = descend({start, lr, noise: i => random[r * STEPS + i].map(v => SPREAD * v / Math.sqrt(bs))})
        runs[r]?.setAttribute('d', line(path))
        return path.at(-1)
      })
      cloud.setAttribute('d', points(ends))
      const mean = ends.reduce((s, p) => s + height(p), 0) / RUNS
      say(`${RUNS} runs of ${STEPS} steps with batches of ${bs}: they end at a height of ${show(mean)} on average; with the gradient of all rows it is ${show(height(end))}.`)
    } else {
      const b = descend({start, lr, momentum})
      heavy.setAttribute('d', line(b))
      steps[1].setAttribute('d', points(b))
      const word = path => height(path.at(-1)) > height(start) ? `has been thrown out, to a height of ${show(height(path.at(-1)))}` : `ends at a height of ${show(height(path.at(-1)), 3)}`
      say(`After ${STEPS} steps plain descent (blue) ${word(a)}; with a momentum of ${show(momentum)} (orange) it ${word(b)}.`)
    }
  })
  const question = noisy ? {question: 'Batches four times as large: how much narrower does the cloud of ends become?', right: 1, answers: [['a quarter as wide'],
    ['half as wide', 'The error of a gradient falls with the square root of the batch. Drag the batch size and watch the cloud.'], ['no narrower']]}
    : {question: 'More momentum is faster. Does it stay so up to 0.98?', right: 1, answers: [['yes'],
      ['no', 'With too much of it the ball rolls past the lowest point again and again. Drag the momentum and see.']]}
  predict(panel, question)
  update()
})
