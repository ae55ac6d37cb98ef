// Chapter 03: slide three scores along the line; four ways to a log-softmax, computed in the precision one chooses.
import {axes, button, choice, define, h, handle, once, predict, show, slider, speaker, stage} from './figure.js'
import {TYPES, versions} from './floats.js'
import {logSoftmax} from './math.js'

const TOP = {float16: 11.09, bfloat16: 88.72, float32: 88.72}, BOTTOM = {float16: -17.33, bfloat16: -92.88, float32: -103.97}, END = 130
const ROUNDING = {float16: 2 ** -10, bfloat16: 2 ** -7, float32: 2 ** -23}

define('precision', 'Slide the three scores and choose a type: every step is computed in it (z is x minus the largest score), and the first inf or nan is lit.', panel => {
  const state = {scores: [0, 1, 2], type: 'float32'}
  const clamp = v => Math.max(-END, Math.min(END, v))
  const type = choice({label: 'computed in', options: Object.keys(TYPES).map(t => [t, t]), value: 'float32', input: v => { state.type = v; update() }})
  const all = slider({label: 'move all three', min: -END, max: END - 2, step: .5, key: 1, value: 0, text: v => show(v, 1), input: v => {
    const by = v - state.scores[0]
    state.scores = state.scores.map(s => clamp(s + by))
    update()
  }})
  let wide = 600, scale
  const line = stage('The three scores on a line', 136, w => { wide = w; update() })
  const [over, under] = ['over', 'under'].map(c => h('rect', {class: `answer ${c}`, y: 24, height: 72, 'aria-hidden': 'true'}))
  const [overText, underText] = ['end', 'start'].map(a => h('text', {class: 'answer', y: 16, 'text-anchor': a, 'aria-hidden': 'true'}))
  line.append(over, under, overText, underText)
  const dots = state.scores.map((_, i) => handle(line, {label: `score ${i + 1}`, min: -END, max: END,
    drag: px => move(i, Math.round(scale.x(px) * 2) / 2), nudge: (dx, dy) => move(i, state.scores[i] + dx + dy)}))
  dots.forEach((d, i) => d.classList.add(`c${i}`))

  function move(i, v) {
    state.scores[i] = clamp(v)
    all.value = state.scores[0]
    update()
  }

  const body = h('tbody')
  panel.append(h('div', {class: 'row'}, type, all, button('Start again', () => { state.scores = [0, 1, 2]; all.value = 0; update() })), line,
    h('div', {class: 'block'}, h('table', {class: 'steps'}, h('thead', {}, h('tr', {}, ...['version', 'step by step', 'log-softmax'].map(t => h('th', {scope: 'col'}, t)))), body)))
  const say = speaker(panel, 'block')
  const digits = v => show(v, Math.abs(v) >= 100 ? 1 : Math.abs(v) >= 10 ? 2 : 3)

  const update = once(() => {
    scale = axes(line, wide, {x: [-END, END], y: [0, 1], xticks: [-100, -50, 0, 50, 100].map(v => [v, show(v, 0)]), yticks: [], xlabel: 'score', ylabel: '', left: 14})
    const top = scale.X(TOP[state.type]), bottom = scale.X(BOTTOM[state.type]), right = scale.X(END), left = scale.X(-END)
    over.setAttribute('x', top); over.setAttribute('width', right - top)
    under.setAttribute('x', left); under.setAttribute('width', bottom - left)
    overText.setAttribute('x', right); overText.textContent = `exp: inf above ${show(TOP[state.type])}`
    underText.setAttribute('x', left); underText.textContent = `exp: 0 below ${show(BOTTOM[state.type])}`
    const x = state.scores.map(TYPES[state.type]), truth = logSoftmax(x)
    dots.forEach((d, i) => d.place(scale.X(state.scores[i]), 37 + 23 * i, state.scores[i], show(state.scores[i], 1)))
    const found = versions(x, state.type).map(([name, steps]) => {
      const answer = steps.at(-1)[1], bad = steps.findIndex(([, v]) => v.some(n => !Number.isFinite(n)))
      const off = Math.max(...answer.map((v, i) => Math.abs(v - truth[i])))
      return {name, steps, answer, bad, right: off <= Math.max(.0006, ROUNDING[state.type] * Math.max(...truth.map(Math.abs)))}
    })
    const cell = (v, lit) => h('span', {class: lit && !Number.isFinite(v) ? 'lit' : ''}, digits(v))
    const list = (v, lit) => v.flatMap((n, i) => [i ? ', ' : '', cell(n, lit)])
    body.replaceChildren(...found.map(({name, steps, answer, bad, right}) => h('tr', {class: right ? 'fine' : 'wrong'}, h('th', {scope: 'row'}, name),
      h('td', {}, ...steps.slice(0, -1).flatMap(([step, v], i) => [h('span', {class: 'step'}, h('small', {}, step), ' ', ...list(v, i === bad))])),
      h('td', {}, ...list(answer, bad === steps.length - 1), h('span', {class: 'mark'}, right ? ' ✓' : ' ✗')))),
      h('tr', {class: 'truth'}, h('th', {scope: 'row'}, 'right answer'), h('td', {}), h('td', {}, ...list(truth, false))))
    const wrong = found.filter(f => !f.right).map(f => f.bad < 0 ? `“${f.name}” has lost its digits` : `“${f.name}” meets ${show(f.steps[f.bad][1].find(n => !Number.isFinite(n)))} in its step ${f.steps[f.bad][0]}`)
    say(`Scores ${x.map(v => show(v, 1)).join(', ')} in ${state.type}: ${wrong.length ? wrong.join('; ') + '.' : 'all four are right.'}`)
  })
  predict(panel, {question: 'Version 4 takes PyTorch’s logsumexp from x, and nothing overflows. In bfloat16, does it give the right answer for the scores 90, 91, 92?', right: 1,
    answers: [['yes'], ['no, it is off by 0.1', 'Near 90, neighbouring bfloat16 numbers are 0.5 apart, and its answer is a difference of two of them. Choose bfloat16, and slide.'], ['no, it is nan']]})
  update()
})
