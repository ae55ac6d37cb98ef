// Chapter 02: drag five scores; exponentials, their sum and the probabilities follow. A constant changes nothing, a temperature does.
import {button, define, h, once, predict, show, slider, speaker} from './figure.js'
import {argmax, softmax, sum} from './math.js'

const NAMES = ['cat', 'dog', 'plane', 'fish', 'building'], START = [-4.89, 2.6, .59, -2.07, -4.57]

/** The columns of the table: exponentials of the scores, their sum, the probabilities. */
export function columns(scores, constant, temperature) {
  const x = scores.map(v => (v + constant) / temperature), e = x.map(Math.exp)
  return {e, total: sum(e), p: softmax(x)}
}

define('softmax', panel => {
  const state = {scores: [...START], constant: 0, temperature: 1}
  const cells = NAMES.map(() => ({e: h('span', {class: 'number'}), p: h('span', {class: 'number'}), bar: h('div')}))
  const sliders = NAMES.map((name, i) => slider({label: name, min: -6, max: 6, step: .01, key: .1, value: START[i],
    input: v => { state.scores[i] = v; update() }}))
  const total = h('span', {class: 'number'}), parts = NAMES.map((_, i) => h('div', {class: `c${i}`}))
  const extra = [
    slider({label: 'add to all', min: -6, max: 6, step: .1, key: .1, value: 0, text: v => show(v, 1), input: v => { state.constant = v; update() }}),
    slider({label: 'temperature', values: [.1, .2, .3, .5, .7, 1, 1.5, 2, 3, 5, 10], value: 1, text: v => show(v, 1), input: v => { state.temperature = v; update() }})]

  extra[0].classList.add('answer')
  sliders.forEach((s, i) => s.classList.add(`c${i}`))
  panel.append(
    h('div', {class: 'table five'}, ...['', 'score', '', 'exp', 'softmax'].map(t => h('span', {class: 'head'}, t)),
      ...NAMES.flatMap((_, i) => [sliders[i], cells[i].e, h('div', {class: 'share'}, h('div', {class: 'bar'}, set(cells[i].bar, i)), cells[i].p)]),
      h('span', {class: 'head sum'}, 'sum'), total, h('span', {class: 'number'}, '1')),
    h('div', {class: 'stack', 'aria-hidden': 'true'}, ...parts),
    h('div', {class: 'controls'}, ...extra, button('Start again', reset)))
  const say = speaker(panel)

  function set(bar, i) { bar.className = `c${i}`; return bar }

  function reset() {
    Object.assign(state, {scores: [...START], constant: 0, temperature: 1})
    sliders.forEach((s, i) => { s.value = START[i] })
    extra[0].value = 0
    extra[1].value = 1
    update()
  }

  const update = once(() => {
    const {e, total: s, p} = columns(state.scores, state.constant, state.temperature), top = argmax(p)
    cells.forEach((cell, i) => {
      cell.e.textContent = show(e[i], 2)
      cell.p.textContent = show(p[i], 4)
      cell.bar.style.width = parts[i].style.width = `${100 * p[i]}%`
    })
    total.textContent = show(s, 2)
    say(`${NAMES[top]}: ${show(e[top])} of ${show(s)}, a probability of ${show(100 * p[top], 1)} %.`
      + (state.constant ? ` Adding ${show(state.constant, 1)} to all scores multiplied every exponential by ${show(Math.exp(state.constant / state.temperature))} and changed no probability.` : ''))
  })
  predict(panel, {question: 'Add 3 to all five scores. What becomes of the dog’s probability?', right: 1,
    answers: [['It rises'], ['It stays', 'Every exponential is multiplied by the same number, and so is their sum. Drag “add to all” and see.'], ['It falls']]})
  update()
})
