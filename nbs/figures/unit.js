// Chapter 01: one unit of the hidden layer: change one of its 784 weights and see which of twenty digits it answers to.
import {button, define, h, once, set, show, slider, speaker} from './figure.js'
import {sum} from './math.js'
import {loadDigits, loadNetwork} from './network.js'
import {paint, picture} from './pad.js'

/** What a unit makes of a picture: the sum of pixel times weight, plus its bias. */
export const output = (weights, bias, x) => bias + sum(Array.from(weights, (w, i) => w * x[i]))

define('unit', 'One of the fifty units of the trained network (chapter 05). Choose a pixel on the left, change its weight, and see which digits that matters to.', async panel => {
  const [{w1, b1}, {kept}] = await Promise.all([loadNetwork(), loadDigits()])
  const twenty = [...Array(10).keys()].flatMap(d => kept.y.map((y, i) => [y, i]).filter(([y]) => y === d).slice(0, 2).map(([, i]) => i))
  const state = {unit: 4, at: 14 * 28 + 14, weights: null}
  const load = () => { state.weights = Array.from(w1.subarray(784 * state.unit, 784 * (state.unit + 1))) }
  const view = picture(null, 224), mark = h('div', {class: 'mark'})
  const board = h('div', {class: 'weights', tabindex: 0, role: 'application', 'aria-label': 'The unit’s 784 weights. Arrow keys choose one.'}, view, mark)
  const which = slider({label: 'unit', values: [...Array(50).keys()], value: 4, text: String, input: v => { state.unit = v; load(); update() }})
  const weight = slider({label: 'the weight of the framed pixel', min: -3, max: 3, step: .01, key: .1, value: 0, input: v => { state.weights[state.at] = v; update() }})
  const bars = twenty.map(i => ({i, bar: h('div'), value: h('span', {class: 'number'}), e: null}))
  bars.forEach(b => { b.e = h('div', {class: 'answers'}, picture(kept.x[b.i], 32, `a ${kept.y[b.i]}`), h('div', {class: 'arrow square'}, b.bar), b.value) })

  function choose(column, row) {
    state.at = 28 * Math.max(0, Math.min(27, row)) + Math.max(0, Math.min(27, column))
    update()
  }
  const touch = event => {
    const box = view.getBoundingClientRect()
    choose(Math.floor((event.clientX - box.left) / box.width * 28), Math.floor((event.clientY - box.top) / box.height * 28))
  }
  set(board, {
    pointerdown: event => { board.setPointerCapture(event.pointerId); touch(event) },
    pointermove: event => { if (board.hasPointerCapture(event.pointerId)) touch(event) },
    keydown: event => {
      const by = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key]
      if (!by) return
      event.preventDefault()
      choose(state.at % 28 + by[0], Math.floor(state.at / 28) + by[1])
    }})
  panel.append(h('div', {class: 'two'},
    h('div', {class: 'left'}, h('p', {class: 'head'}, 'weights: blue below 0, orange above'), board, which, weight, button('Start again', () => { load(); update() })),
    h('div', {}, h('p', {class: 'head'}, 'what the unit makes of twenty digits; grey: the ReLU makes it 0'), h('div', {class: 'twenty'}, ...bars.map(b => b.e)))))
  const say = speaker(panel)

  const update = once(() => {
    paint(view, state.weights, true)
    weight.value = state.weights[state.at]
    set(mark, {style: `left: ${state.at % 28 * 8}px; top: ${Math.floor(state.at / 28) * 8}px`})
    const values = twenty.map(i => output(state.weights, b1[state.unit], kept.x[i]))
    bars.forEach((b, k) => {
      b.value.textContent = show(values[k], 1)
      b.bar.className = values[k] < 0 ? 'down off' : 'up c1'
      b.bar.style.width = `${Math.min(50, 5 * Math.abs(values[k]))}%`
      b.e.classList.toggle('inked', kept.x[b.i][state.at] > 0)
    })
    const n = twenty.filter(i => kept.x[i][state.at] > 0).length, awake = values.filter(v => v > 0).length
    const on = n === 0 ? 'None of the twenty digits has ink there, so changing it changes nothing.'
      : `${n} of the twenty digits ${n === 1 ? 'has' : 'have'} ink there (framed); only what the unit makes of ${n === 1 ? 'that one' : 'those'} changes with it.`
    say(`Unit ${state.unit}, pixel in row ${Math.floor(state.at / 28)}, column ${state.at % 28}: its weight is ${show(state.weights[state.at])}. `
      + `${on} ${awake ? `The unit is above 0 for ${awake} of the twenty` : 'The unit is above 0 for none of the twenty: the ReLU makes it 0 for all'}.`)
  })
  load()
  update()
})
