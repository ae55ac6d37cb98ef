// Chapter 04: drag the probability that a picture’s right class gets, or choose another class as the right one; minus its logarithm and the mean follow.
import {axes, button, define, h, handle, once, predict, set, show, speaker, stage} from './figure.js'
import {nll} from './math.js'

const START = [[.8, .15, .05], [.07, .23, .7]], LABELS = [1, 2], LEAST = .01

/** The row with probability `p` for class `k`; the others keep their shares of the rest. */
export function withProbability(row, k, p) {
  const rest = 1 - row[k]
  return row.map((v, j) => j === k ? p : rest > 0 ? v / rest * (1 - p) : (1 - p) / (row.length - 1))
}

define('nll', 'Drag a point along the curve, or click another class to make it the right one.', panel => {
  const state = {rows: START.map(r => [...r]), labels: [...LABELS]}
  let wide = 500, scale
  const plot = stage('Loss of a picture against the probability given to its right class', 270, w => { wide = w; update() })
  const curve = h('path', {class: 'curve plain'}), mean = h('path', {class: 'guess'}), meanText = h('text', {'text-anchor': 'end', 'aria-hidden': 'true'})
  const drops = state.rows.map((_, i) => h('path', {class: `drop c${i}`}))
  plot.classList.add('block')
  plot.append(curve, mean, meanText, ...drops)
  const knobs = state.rows.map((_, i) => handle(plot, {label: `Picture ${i + 1}: probability of its right class`, min: LEAST, max: .99,
    drag: px => move(i, scale.x(px)), nudge: (dx, dy) => move(i, state.rows[i][state.labels[i]] + (dx + dy) / 100)}))
  knobs.forEach((k, i) => k.classList.add(`c${i}`))
  const cells = state.rows.map((row, i) => row.map((_, k) => button('', () => { state.labels[i] = k; update() })))
  const losses = state.rows.map(() => h('td', {class: 'number'})), total = h('td', {class: 'number'})

  function move(i, p) {
    state.rows[i] = withProbability(state.rows[i], state.labels[i], Math.max(LEAST, Math.min(.99, p)))
    update()
  }

  panel.append(
    h('table', {class: 'classes'}, h('thead', {}, h('tr', {}, h('td'), ...['class 0', 'class 1', 'class 2', '−log p'].map(t => h('th', {scope: 'col'}, t)))),
      h('tbody', {}, ...cells.map((row, i) => h('tr', {}, h('th', {scope: 'row', class: `c${i} named`}, `picture ${i + 1}`), ...row.map(b => h('td', {}, b)), losses[i])),
        h('tr', {}, h('th', {scope: 'row'}, 'mean'), h('td', {}), h('td', {}), h('td', {}), total))),
    plot, h('div', {class: 'controls'}, button('Start again', () => { state.rows = START.map(r => [...r]); state.labels = [...LABELS]; update() })))
  const say = speaker(panel)

  const update = once(() => {
    scale = axes(plot, wide, {x: [0, 1], y: [0, 5], xticks: [0, .2, .4, .6, .8, 1].map(v => [v, String(v)]), yticks: [0, 1, 2, 3, 4, 5].map(v => [v, String(v)]),
      xlabel: 'probability given to the right class', ylabel: 'loss of the picture, −log p', left: 26})
    const {X, Y} = scale, points = Array.from({length: 200}, (_, i) => .0068 + i / 199 * .9932)
    curve.setAttribute('d', points.map((p, i) => `${i ? 'L' : 'M'}${X(p)} ${Y(-Math.log(p))}`).join(''))
    const p = state.rows.map((row, i) => row[state.labels[i]]), loss = nll(state.rows.map(row => row.map(Math.log)), state.labels)
    p.forEach((v, i) => {
      knobs[i].place(X(v), Y(-Math.log(v)), v.toFixed(2), `${show(v)}, loss ${show(-Math.log(v))}`)
      drops[i].setAttribute('d', `M${X(v)} ${Y(0)}V${Y(-Math.log(v))}H${X(0)}`)
      losses[i].textContent = show(-Math.log(v))
      cells[i].forEach((b, k) => { b.textContent = show(state.rows[i][k]); set(b, {'aria-pressed': String(k === state.labels[i]), 'aria-label': `picture ${i + 1}, class ${k}: ${show(state.rows[i][k])}`}) })
    })
    mean.setAttribute('d', `M${X(0)} ${Y(loss)}H${X(1)}`)
    set(meanText, {x: X(1), y: Y(loss) - 6})
    meanText.textContent = `mean ${show(loss)}`
    total.textContent = show(loss)
    say(`The right classes got ${p.map(v => show(v)).join(' and ')}, which costs ${p.map(v => show(-Math.log(v))).join(' and ')}; the mean is ${show(loss)}.`)
  })
  predict(panel, {question: 'Picture 1 gives its right class 0.15 and costs 1.90. What would half of it, 0.075, cost?', right: 1,
    answers: [['0.95'], ['2.59', 'Half the probability costs 0.69 more, minus the logarithm of a half, from wherever one starts. Drag the point of picture 1 and see.'], ['3.79']]})
  update()
})
