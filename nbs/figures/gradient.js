// Chapter 06: drag four scores and choose the target; softmax minus one-hot, as arrows, with a finite difference beside it.
import {button, choice, define, h, once, predict, show, slider, speaker} from './figure.js'
import {crossEntropy, crossEntropyGrad, finiteDifference, softmax, sum} from './math.js'

const START = [1, 2.5, .5, -1]

define('gradient', 'Drag the four scores and choose the label: the derivative of the loss by each score follows.', panel => {
  const state = {scores: [...START], target: 0}
  const cells = START.map(() => ({p: h('span', {class: 'number'}), hot: h('span', {class: 'number wide'}), bar: h('div'), g: h('span', {class: 'number answer'}), near: h('span', {class: 'number wide answer'})}))
  const sliders = START.map((v, i) => slider({label: `class ${i}`, min: -4, max: 4, step: .01, key: .1, value: v, input: s => { state.scores[i] = s; update() }}))
  const target = choice({label: 'the label is class', options: START.map((_, i) => [i, String(i)]), value: 0, input: v => { state.target = v; update() }})
  const total = h('span', {class: 'number answer'})
  const step = button('Step against it', () => {
    const [g] = crossEntropyGrad([state.scores], [state.target])
    state.scores = state.scores.map((v, i) => Math.max(-4, Math.min(4, v - g[i])))
    sliders.forEach((s, i) => { s.value = state.scores[i] })
    update()
  }, {class: 'answer'})

  panel.append(target,
    h('div', {class: 'table grad'}, ...['', 'score', '', 'softmax p', 'one-hot', 'p − one-hot', '', 'finite diff.'].map((t, i) => h('span', {class: i === 4 || i === 7 ? 'head wide' : 'head'}, t)),
      ...cells.flatMap((cell, i) => [sliders[i], cell.p, cell.hot, h('div', {class: 'arrow answer'}, cell.bar), cell.g, cell.near]),
      h('span', {class: 'head sum'}, 'sum'), total, h('span', {class: 'wide'})),
    h('div', {class: 'controls'}, button('Start again', () => { state.scores = [...START]; sliders.forEach((s, i) => { s.value = START[i] }); update() }), step))
  const say = speaker(panel, 'answer')

  const update = once(() => {
    const {scores, target} = state, p = softmax(scores), [g] = crossEntropyGrad([scores], [target])
    cells.forEach((cell, i) => {
      cell.p.textContent = show(p[i], 3)
      cell.hot.textContent = i === target ? '1' : '0'
      cell.g.textContent = show(g[i], 3)
      cell.near.textContent = show(finiteDifference(scores, target, i), 3)
      cell.bar.className = g[i] < 0 ? 'down c0' : 'up c1'
      cell.bar.style.width = `${50 * Math.abs(g[i])}%`
    })
    total.textContent = show(Math.round(sum(g) * 1e9) / 1e9, 3)
    say(`The loss is ${show(crossEntropy([scores], [target]))}. Raising the score of class ${target} by a little changes it by ${show(g[target], 3)} times as much; `
      + `raising the others, by ${g.filter((_, i) => i !== target).map(v => show(v, 3)).join(', ')}. Together they are 0.`)
  })
  predict(panel, {question: 'The four derivatives of the loss, one by each score: what is their sum?', right: 1,
    answers: [['the loss'], ['0', 'Adding the same number to all scores changes no probability, so it cannot change the loss.'], ['1'], ['it depends on the scores']]})
  update()
})
