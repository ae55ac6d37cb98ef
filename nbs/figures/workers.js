// Chapter 16: the time of a step on W workers, from latency, bandwidth and the width of the network, and where it stops paying.
import {axes, button, define, h, handle, once, predict, show, slider, speaker, stage} from './figure.js'

const ROWS = 512, MOST = 1024

/** Bytes of the gradient of Model(784, width, 10) in float32. */
export const bytes = width => 4 * (784 * width + width + width * 10 + 10)

/** T(W): the chapter's time of a ring all-reduce, in seconds. */
export const allReduce = (workers, n, latency, bandwidth) => 2 * (workers - 1) * (latency + n / workers / bandwidth)

/** A worker's own part of a step, in seconds: a start, the update of the parameters, and what each of its rows takes. */
export const compute = (workers, width) => 4e-4 + 3 * bytes(width) / 1e10 + ROWS / workers * 6 * 794 * width / 1.2e11

define('workers', 'Drag the number of workers along the curve, or change the messages and the network: the time of a step follows.', panel => {
  const state = {workers: 8, latency: 121e-6, bandwidth: .7e9, width: 2048}
  let wide = 600, scale
  const plot = stage('Speed against the number of workers', 280, w => { wide = w; update() })
  const [ideal, curve, gone] = [h('path', {class: 'guess'}), h('path', {class: 'curve answer'}), h('path', {class: 'drop c1'})]
  plot.append(ideal, gone, curve)
  const knob = handle(plot, {label: 'Number of workers', min: 1, max: MOST, drag: px => move(2 ** scale.x(px)), nudge: (dx, dy) => move(state.workers + dx + dy)})
  const parts = [0, 1].map(i => h('div', {class: `c${i}`}))
  const move = w => { state.workers = Math.max(1, Math.min(MOST, Math.round(w))); update() }
  const time = w => [compute(w, state.width), allReduce(w, bytes(state.width), state.latency, state.bandwidth)]
  const speed = w => time(1)[0] / (time(w)[0] + time(w)[1])
  const length = s => s >= .1 ? `${show(s, 2)} s` : s >= 1e-3 ? `${show(s * 1e3, 1)} ms` : `${show(s * 1e6, 0)} µs`
  const sliders = {
    latency: slider({label: 'latency', values: [1, 2, 5, 10, 20, 50, 121, 200, 500, 1000].map(v => v * 1e-6), value: 121e-6, text: length, input: v => { state.latency = v; update() }}),
    bandwidth: slider({label: 'bandwidth', values: [.1, .2, .5, .7, 1, 2, 5, 10, 25, 50, 100].map(v => v * 1e9), value: .7e9, text: v => `${v / 1e9} GB/s`, input: v => { state.bandwidth = v; update() }}),
    width: slider({label: 'hidden units', values: [50, 100, 200, 512, 1024, 2048, 4096, 8192], value: 2048, text: String, input: v => { state.width = v; update() }})}
  panel.append(h('div', {class: 'row'}, ...Object.values(sliders)), plot, h('p', {class: 'head answer'}, 'one step: ', h('span', {class: 'named c0'}, 'computing'), ' and ', h('span', {class: 'named c1'}, 'waiting for messages')),
    h('div', {class: 'stack answer', 'aria-hidden': 'true'}, ...parts), h('div', {class: 'controls'}, button('Start again', () => {
      Object.assign(state, {workers: 8, latency: 121e-6, bandwidth: .7e9, width: 2048})
      for (const name in sliders) sliders[name].value = state[name]
      update()
    })))
  const say = speaker(panel, 'answer')

  const update = once(() => {
    const log = Math.log2
    scale = axes(plot, wide, {x: [0, 10], y: [-6, 6], xticks: [0, 2, 4, 6, 8, 10].map(v => [v, String(2 ** v)]), yticks: [[-5, '1/32'], [-3, '1/8'], [0, '1'], [3, '8'], [5, '32']],
      xlabel: 'workers', ylabel: 'times as fast as one worker; dashed: the ideal', left: 40})
    const {X, Y} = scale, at = w => [X(log(w)), Y(Math.max(-6, Math.min(6, log(speed(w)))))], {workers} = state
    ideal.setAttribute('d', `M${X(0)} ${Y(0)}L${X(6)} ${Y(6)}M${X(0)} ${Y(0)}H${X(10)}`)
    curve.setAttribute('d', Array.from({length: 101}, (_, i) => `${i ? 'L' : 'M'}${at(2 ** (i / 10)).map(v => v.toFixed(1)).join(' ')}`).join(''))
    knob.place(...at(workers), workers, `${workers}: ${show(speed(workers))} times as fast`)
    const all = Array.from({length: MOST}, (_, i) => speed(i + 1)), best = all.indexOf(Math.max(...all)) + 1, [own, wait] = time(workers)
    gone.setAttribute('d', `M${X(log(best))} ${Y(-6)}V${at(best)[1]}`)
    parts.forEach((part, i) => { part.style.width = `${100 * [own, wait][i] / (own + wait)}%` })
    say(`${workers} ${workers === 1 ? 'worker' : 'workers'}, ${ROWS} rows together: a step takes ${length(own + wait)}, of which ${length(wait)} for messages, ${show(speed(workers))} times as fast as one. `
      + (best === 1 ? 'One worker alone is fastest.' : `It stops paying at ${best} workers, ${show(all[best - 1])} times as fast.`))
  })
  predict(panel, {question: '2,048 hidden units, the messages as slow as below, up to 1,024 workers. How many times as fast does it get at best?', right: 0,
    answers: [['less than twice', 'The messages cost as much as they save. Make the latency shorter and the bandwidth larger, and see which of them helps.'], ['about ten times'], ['about 500 times']]})
  update()
})
