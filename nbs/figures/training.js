// Chapter 05: look, blame, nudge, repeat: the chapter's network, from the chapter's first numbers, trained in the page.
import {axes, button, choice, define, h, once, predict, show, slider, speaker, stage} from './figure.js'
import {argmax, crossEntropy, softmax} from './math.js'
import {accuracy, blame, forward, fresh, loadDigits, nudge} from './network.js'
import {album, pad, paint, picture} from './pad.js'

const MOST = 1500, LOW = .003, HIGH = 300

define('training', 'The network of this chapter and 500 digits: train it step by step with Look, Blame and Nudge, or all at once with Run.', async panel => {
  const digits = await loadDigits(), own = {x: [], y: []}
  const state = {lr: .5, bs: 50, order: 'stored', rows: 'mnist', pixels: null, label: 0, running: false}
  let net, steps, phase, batch, seen, checked, ended, drawn = 0

  const batchView = h('canvas', {width: 280, height: 140, class: 'batch', role: 'img', 'aria-label': 'The minibatch; digits that the network gets wrong are framed'})
  const blameView = picture(null, 140, 'Where the blame falls: for each pixel, how much its weights would change the loss')
  const next = button('Look', advance, {class: 'main'}), run = button('Run', () => { state.running = !state.running; loop() })
  const lr = slider({label: 'learning rate', values: [.01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20], value: .5, text: String, input: v => { state.lr = v }})
  const bs = slider({label: 'batch size', values: [1, 5, 10, 25, 50, 100, 250, 500], value: 50, text: String, input: v => { state.bs = v; start() }})
  const order = choice({label: 'the pictures', options: [['stored', 'in order'], ['sorted', 'sorted by label, in batches of 5']], value: 'stored', input: v => {
    state.order = v
    state.bs = bs.value = v === 'sorted' ? 5 : 50
    start()
  }})
  order.classList.add('answer')
  const rows = choice({label: 'train on', options: [['mnist', '500 of MNIST'], ['own', 'your own']], value: 'mnist', input: v => { state.rows = v; start() }})

  function data() {
    const {x, y} = state.rows === 'own' ? own : digits.train, at = y.map((_, i) => i)
    if (state.order === 'sorted') at.sort((a, b) => y[a] - y[b] || a - b)
    return {x: at.map(i => x[i]), y: at.map(i => y[i])}
  }

  function start() {
    [net, steps, phase, batch, seen, checked, ended, state.running] = [fresh(), [], 0, null, data(), [], null, false]
    seen.at = 0
    check()
    update()
  }

  const scores = x => x.map(row => forward(net, row).scores)
  const check = () => checked.push([steps.length, accuracy(scores(digits.kept.x), digits.kept.y)])

  function look() {
    if (!seen.y.length) return
    if (seen.at >= seen.y.length) seen.at = 0
    const x = seen.x.slice(seen.at, seen.at + state.bs), y = seen.y.slice(seen.at, seen.at + state.bs)
    batch = {x, y, ...blame(net, x, y)}
    seen.at += state.bs
  }

  function take() {
    const step = {loss: batch.loss, accuracy: accuracy(batch.scores, batch.y)}, end = seen.at >= seen.y.length
    steps.push(step)
    nudge(net, batch.grad, state.lr)
    if (!state.running) step.after = crossEntropy(scores(batch.x), batch.y)
    if (!state.running || end || steps.length % 5 === 0) check()
    if (end) ended = {epoch: (ended?.epoch ?? 0) + 1, last: step.accuracy, kept: checked.at(-1)[1]}
  }

  function advance() {
    if (phase === 0) look()
    if (phase === 2) take()
    if (batch) phase = (phase + 1) % 3
    update()
  }

  function loop() {
    for (const end = performance.now() + 9; state.running && performance.now() < end;) {
      if (phase === 0) look()
      if (!batch || steps.length >= MOST || !Number.isFinite(batch.loss)) state.running = false
      else take()
      phase = 0
    }
    update()
    if (state.running) requestAnimationFrame(loop)
  }

  const curve = points => points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('')
  const dots = points => points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join('')
  const [lossDots, guess, batchDots, line] = [['dots', {}], ['guess', {}], ['dots c1', {}], ['curve', {}]].map(([c]) => h('path', {class: c}))
  let wide = 600
  const lossPlot = stage('Loss of each step', 190, w => { wide = w; update() }), accPlot = stage('Accuracy', 150, () => update())
  lossPlot.append(guess, lossDots)
  accPlot.append(batchDots, line)

  function plots() {
    const end = Math.max(60, steps.length), xs = [0, end], every = [10, 20, 50, 100, 200, 500].find(v => end / v <= 6), log = Math.log10
    const xticks = [...Array(Math.floor(end / every) + 1).keys()].map(i => [i * every, String(i * every)])
    const a = axes(lossPlot, wide, {x: xs, y: [log(LOW), log(HIGH)], xticks, yticks: [.01, .1, 1, 10, 100].map(v => [log(v), String(v)]), xlabel: 'step', ylabel: 'loss of the step; dashed, a guess among ten'})
    const b = axes(accPlot, wide, {x: xs, y: [0, 1], xticks, yticks: [[0, '0'], [.5, '0.5'], [1, '1']], xlabel: 'step', ylabel: 'accuracy: dots, batch; line, kept back'})
    lossDots.setAttribute('d', dots(steps.map((s, i) => [a.X(i + 1), a.Y(log(Math.max(LOW, Math.min(HIGH, s.loss || HIGH))))])))
    guess.setAttribute('d', curve([[a.X(0), a.Y(log(Math.log(10)))], [a.X(end), a.Y(log(Math.log(10)))]]))
    batchDots.setAttribute('d', dots(steps.map((s, i) => [b.X(i + 1), b.Y(s.accuracy)])))
    line.setAttribute('d', curve(checked.map(([i, v]) => [b.X(i), b.Y(v)])))
  }

  function views() {
    drawn = performance.now()
    album(batchView, batch?.x ?? [], i => argmax(batch.scores[i]) !== batch.y[i])
    const per = new Float64Array(784)
    if (batch && phase !== 1) batch.grad.w1.forEach((g, i) => { per[i % 784] += Math.abs(g) })
    paint(blameView, per, true)
    blameView.classList.toggle('off', !batch || phase === 1)
  }

  const update = once(() => {
    if (!panel.isConnected) return
    plots()
    if (!state.running || performance.now() > drawn + 400) { views(); tell() }
    next.textContent = ['Look', 'Blame', 'Nudge'][phase]
    next.disabled = state.running
    if (batch) parts.hidden = false
    run.textContent = state.running ? 'Pause' : 'Run'
    const last = steps.at(-1), percent = v => `${show(100 * v, 0)} %`, kept = percent(checked.at(-1)[1])
    say(!seen.y.length ? 'There are no digits of yours yet: draw one below, say what it is and keep it.'
      : batch && !Number.isFinite(batch.loss) ? `The loss is ${show(batch.loss)} at step ${steps.length + 1}: no further step can help. Try a smaller learning rate.`
      : phase === 1 ? `Look: the loss of these ${batch.y.length} digits is ${show(batch.loss)}, and ${percent(accuracy(batch.scores, batch.y))} are right.`
      : phase === 2 ? 'Blame: for each of the 39,760 numbers, how much the loss would rise if it rose a little.'
        + (batch.grad.w1.some(g => g) ? '' : ' It reaches no pixel: for these digits the ReLU makes every hidden unit 0.')
      : last ? `${steps.length} ${steps.length === 1 ? 'step' : 'steps'}. `
        + (last.after === undefined ? `Last batch: loss ${show(last.loss)}, ${percent(last.accuracy)} right.` : `Loss of this batch ${show(last.loss)} → ${show(last.after)}.`)
        + ` Of the 200 digits kept back, ${kept} are right.` + (ended ? ` At the end of epoch ${ended.epoch} the last batch was ${percent(ended.last)} right, the digits kept back ${percent(ended.kept)}.` : '')
      : `Not trained yet. Of the 200 digits kept back, ${kept} are right.`)
  })

  const answer = h('span'), board = pad(pixels => { state.pixels = pixels; tell() })
  const count = h('span'), label = choice({label: 'It is a', options: [...Array(10).keys()].map(i => [i, String(i)]), value: 0, input: v => { state.label = v }})
  const tell = () => {
    const empty = !state.pixels?.some(v => v), p = empty ? [] : softmax(forward(net, state.pixels).scores)
    answer.textContent = empty ? 'Draw a digit.' : `The network says ${argmax(p)}, with ${show(100 * Math.max(...p), 0)} %. `
    count.textContent = `${own.y.length} of yours kept.`
  }
  const keep = () => {
    if (!state.pixels?.some(v => v)) return
    own.y.push(own.x.push(state.pixels) && state.label)
    board.clear()
    if (state.rows === 'own') start()
  }
  const parts = h('div', {class: 'row views', hidden: true}, h('div', {}, h('p', {class: 'head'}, 'the minibatch; framed: the network is wrong'), batchView), h('div', {}, h('p', {class: 'head'}, 'where the blame falls: black none, orange most'), blameView))
  panel.append(h('div', {class: 'row'}, next, run, button('Start again', () => start())), h('div', {class: 'controls'}, lr, bs), parts, lossPlot, accPlot, h('div', {class: 'row'}, rows, order))
  const say = speaker(panel)
  panel.append(h('details', {}, h('summary', {}, 'Train it on digits of your own'),
    h('div', {class: 'row'}, board, h('div', {class: 'column'}, h('p', {'aria-live': 'polite'}, answer, count), label, h('div', {class: 'row'}, button('Keep it', keep), button('Clear', () => board.clear()))))))
  predict(panel, {question: 'Sorted pictures fool the report at the end of an epoch. Half way, the network has seen all digits from 0 to 4. How many of those kept back are right then?', right: 0,
    answers: [['about 10 %', 'It says four to nearly all: while it learns one digit it forgets those before. Sort the pictures, run, and compare the dots with the line.'], ['about 50 %, the half it has seen'], ['about 90 %']]})
  start()
})
