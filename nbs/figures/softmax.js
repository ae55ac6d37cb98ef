// Chapter 02: drag five scores; exponentials, their sum and the probabilities follow. A constant changes nothing, a temperature does.
import {button, define, h, once, predict, show, slider, speaker} from './figure.js'
import {argmax, softmax, sum} from './math.js'

const NAMES = ['cat', 'dog', 'plane', 'fish', 'building'], START = [-4.89, 2.6, .59, -2.07, -4.57]

/** The columns of the table: the scores, moved and divided, their exponentials and the sum of those, the probabilities. */
export function columns(scores, constant, temperature) {
  const x = scores.map(v => (v + constant) / temperature), e = x.map(Math.exp)
  return {x, e, total: sum(e), p: softmax(x)}
}

define('softmax', 'Drag the five scores, or change all of them with the sliders below: exponentials, sum and probabilities follow.', panel => {
  const state = {scores: [...START], constant: 0, temperature: 1}
  const cells = NAMES.map(() => ({e: h('span', {class: 'number'}), p: h('span', {class: 'number answer'}), bar: h('div')}))
  const brief = v => show(v, Math.abs(v) >= 100 ? 0 : Math.abs(v) >= 10 ? 1 : 2), head = h('span', {class: 'head'})
  const sliders = NAMES.map((name, i) => slider({label: name, min: -6, max: 6, step: .01, key: .1, value: START[i],
    text: v => brief((v + state.constant) / state.temperature),
    input: v => { state.scores[i] = v; update() }}))
  const total = h('span', {class: 'number'}), parts = NAMES.map((_, i) => h('div', {class: `c${i}`}))
  const extra = [
    slider({label: 'add to all', min: -6, max: 6, step: .1, key: .1, value: 0, text: v => show(v, 1), input: v => { state.constant = v; update() }}),
    slider({label: 'temperature', values: [.1, .2, .3, .5, .7, 1, 1.5, 2, 3, 5, 10], value: 1, text: v => show(v, 1), input: v => { state.temperature = v; update() }})]

  sliders.forEach((s, i) => s.classList.add(`c${i}`))
  panel.append(
    h('div', {class: 'table five'}, h('span', {class: 'head'}), head, ...['exp', 'softmax'].map(t => h('span', {class: 'head'}, t)),
      ...NAMES.flatMap((_, i) => [sliders[i], cells[i].e, h('div', {class: 'share'}, h('div', {class: 'bar answer'}, set(cells[i].bar, i)), cells[i].p)]),
      h('span', {class: 'head sum'}, 'sum'), total, h('span', {class: 'number'}, '1')),
    h('div', {class: 'stack answer', 'aria-hidden': 'true'}, ...parts),
    h('div', {class: 'controls'}, ...extra, button('Start again', reset)))
  const say = speaker(panel, 'answer')

  function set(bar, i) { bar.className = `c${i}`; return bar }

  function reset() {
    Object.assign(state, {scores: [...START], constant: 0, temperature: 1})
    extra[0].value = 0
    extra[1].value = 1
    update()
  }

  const update = once(() => {
    const {constant: c, temperature: t} = state, {e, total: s, p} = columns(state.scores, c, t), top = argmax(p)
    const moved = c ? `score ${c < 0 ? '−' : '+'} ${show(Math.abs(c), 1)}` : 'score'
    head.textContent = t === 1 ? moved : `${c ? `(${moved})` : moved} / ${show(t, 1)}`
    sliders.forEach((slider, i) => { slider.value = state.scores[i] })
    cells.forEach((cell, i) => {
      cell.e.textContent = show(e[i], e[i] >= 1000 ? 0 : 2)
      cell.p.textContent = show(p[i], 4).replace(/\.\d(?=e)/, '')
      cell.bar.style.width = parts[i].style.width = `${100 * p[i]}%`
    })
    total.textContent = show(s, s >= 1000 ? 0 : 2)
    say(`${NAMES[top]}: ${show(e[top])} of ${show(s)}, a probability of ${show(100 * p[top], 1)} %.`
      + (c ? ` Adding ${show(c, 1)} to all scores multiplied every exponential by ${show(Math.exp(c / t))} and changed no probability.` : ''))
  })
  predict(panel, {question: 'The dog has 87 %. Raise the cat’s score to the dog’s, 2.60. What has the dog then?', right: 1,
    answers: [['still 87 %'], ['47 %', 'Equal scores share equally, and the other three keep what little they had in the sum. Drag the cat and see.'], ['70 %']]})
  update()
})
