// Home: draw a digit; the trained network's ten scores, ten probabilities and its loss follow.
import {button, choice, define, h, once, speaker} from './figure.js'
import {argmax, crossEntropy, softmax} from './math.js'
import {forward, loadDigits, loadNetwork} from './network.js'
import {pad, paint, picture} from './pad.js'

const percent = p => p < .0005 ? 'below 0.1 %' : `${(100 * p).toFixed(1)} %`

define('digit', 'The trained network (chapter 05) looks at what you draw: with mouse or finger, or with arrow keys and space. Or pick a digit below.', async panel => {
  const [net, {kept}] = await Promise.all([loadNetwork(), loadDigits()])
  const state = {pixels: kept.x[0], said: kept.y[0]}
  const losses = kept.x.map((x, i) => crossEntropy([forward(net, x).scores], [kept.y[i]]))
  const hard = losses.map((_, i) => i).sort((a, b) => losses[b] - losses[a]).slice(0, 10)
  const one = [...Array(10).keys()].map(digit => kept.y.indexOf(digit))

  const seen = picture(null, 84, 'What the network gets')
  const board = pad(pixels => { state.pixels = pixels; update() })
  const rows = [...Array(10).keys()].map(digit => {
    const cells = {score: h('span', {class: 'number'}), bar: h('div'), p: h('span', {class: 'number'})}
    return {...cells, e: h('div', {class: 'scored', role: 'row'}, h('span', {role: 'rowheader'}, String(digit)), cell(cells.score), h('div', {class: 'bar', role: 'cell'}, cells.bar), cell(cells.p))}
  })
  const label = choice({label: 'You say it is a', options: rows.map((_, i) => [i, String(i)]), value: state.said, input: v => { state.said = v; update() }})
  const loss = h('strong', {class: 'large'})

  function cell(e) { e.setAttribute('role', 'cell'); return e }

  function pick(i) {
    state.said = label.value = kept.y[i]
    board.put(kept.x[i])
  }
  const thumbs = (title, list) => h('div', {}, h('p', {class: 'head'}, title), h('div', {class: 'thumbs'}, ...list.map(i => {
    const guess = argmax(forward(net, kept.x[i]).scores)
    return h('button', {type: 'button', class: 'thumb', click: () => pick(i), 'aria-label': `a ${kept.y[i]}, loss ${losses[i].toFixed(2)}; the network says ${guess}`},
      picture(kept.x[i], 40))
  })))

  panel.append(
    h('div', {class: 'two'},
      h('div', {class: 'left'}, h('p', {class: 'head'}, 'Draw a digit'), board,
        h('div', {class: 'row'}, seen, h('div', {}, h('p', {class: 'head'}, 'What the network gets'), button('Clear', () => { board.clear(); state.said = label.value = null })))),
      h('div', {role: 'table', 'aria-label': 'Scores and probabilities'},
        h('div', {class: 'scored head', role: 'row'}, ...['digit', 'score', 'share', 'probability'].map((t, i) => h('span', {role: 'columnheader', class: i % 2 ? 'number' : 'unseen'}, t))),
        ...rows.map(row => row.e))),
    h('div', {class: 'controls'}, label, h('div', {}, h('p', {class: 'head'}, 'Loss'), loss)),
    thumbs('Digits it has not been trained on', one), thumbs('The ten of 200 such digits that cost it most', hard))
  const say = speaker(panel)

  const update = once(() => {
    paint(seen, state.pixels)
    const {scores} = forward(net, state.pixels), p = softmax(scores), top = argmax(p), empty = state.pixels.every(v => v === 0)
    rows.forEach((row, i) => {
      row.score.textContent = scores[i].toFixed(1).replace('-', '−')
      row.p.textContent = percent(p[i])
      row.bar.style.width = `${100 * p[i]}%`
      row.e.classList.toggle('top', i === top)
      row.e.classList.toggle('said', i === state.said)
    })
    const cost = state.said === null ? '' : crossEntropy([scores], [state.said]).toFixed(2)
    loss.textContent = cost || '…'
    say(empty ? 'The pad is empty. Draw a digit, or pick one.' : `The network says ${top}, with ${percent(p[top])}. `
      + (cost ? `You say it is a ${state.said}, which got ${percent(p[state.said])}: the loss is ${cost}.`
        : 'It has only ten answers, whatever you draw. Say which digit it is, and see the loss.'))
  })
  pick(losses.findIndex(v => v > .5 && v < .7))
})
