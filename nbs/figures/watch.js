// Chapter 13: recorded losses of a right loop and a wrong one. Which is which, and what `watch` saw.
import {axes, choice, define, h, once, predict, show, slider, speaker, stage} from './figure.js'

// What the wrong loop does, which curve is its (0 blue, 1 orange), and what follows
const MISTAKES = {
  'frozen biases': ['gives its optimizer the weights but not the biases', 1, 'The weights make up for it here, so neither curve nor accuracy shows it.'],
  'measured with dropout': ['leaves dropout on while it measures its accuracy', 0, 'It trains like the right one. Its report is wrong: it makes the network look worse than it is.'],
  'validation rows in training': ['has the 1,000 digits that it measures with among the 5,000 that it trains on', 0, 'It trains as well as the right one. Its report is wrong: it makes the network look better than it is.'],
  'never back to train': ['stays in evaluation mode after its first measurement, and so trains without dropout', 1, 'The lower curve is the wrong one: without dropout it learns its own digits better, and others a little worse.'],
  'cleared every second step': ['calls zero_grad in every second step only', 1, 'Each second step counts a gradient twice: longer steps, which cost nothing here.'],
  'sorted by label': ['takes its digits in the order of their labels', 0, 'The mean over an epoch falls as it should, and it forgets each digit while it learns the next. Average over fewer steps to see it.']}
const NAMES = ['blue', 'orange, dashed'], END = 1000, LOW = .04, HIGH = 3

/** The mean of each `n` losses in a row. */
export function means(losses, n) {
  let total = 0
  return losses.flatMap((v, i) => {
    total += v - (i >= n ? losses[i - n] : 0)
    return i >= n - 1 ? [total / n] : []
  })
}

const percent = v => `${show(100 * v, 1)} %`
const range = v => Math.min(...v) === Math.max(...v) ? percent(v[0]) : `${show(100 * Math.min(...v), 1)} to ${percent(Math.max(...v))}`

define('watch', 'Two recorded trainings of the same network, one of them with a mistake. Pick a mistake, drag how many steps are averaged, and say which curve is the wrong loop’s.', async panel => {
  const {right, wrong} = await fetch(new URL('watch.json', import.meta.url)).then(r => r.json())
  const state = {mistake: Object.keys(MISTAKES)[0], over: 100}
  let wide = 600
  const plot = stage('Loss of each step, of a right loop and a wrong one', 280, w => { wide = w; update() })
  const lines = ['curve', 'curve c1 dashed'].map(c => h('path', {class: c}))
  plot.append(...lines)
  const pick = choice({label: 'the mistake', options: Object.keys(MISTAKES).map(m => [m, m]), value: state.mistake, input: m => { state.mistake = m; ask(); update() }})
  const over = slider({label: 'each point is the mean of', min: 1, max: 100, step: 1, key: 1, value: 100, text: v => v === 1 ? '1 step' : `${v} steps`, input: v => { state.over = v; update() }})
  panel.append(pick, plot, h('div', {class: 'row'}, over))
  const say = speaker(panel)
  const cells = [0, 1].map(() => [h('td'), h('td')]), printed = h('pre')
  panel.append(h('div', {class: 'block'},
    h('table', {}, h('thead', {}, h('tr', {}, ...['accuracy, three seeds', 'right loop', 'wrong loop'].map(text => h('th', {scope: 'col'}, text)))),
      h('tbody', {}, ...['reported, 1,000 digits', 'true, 9,000 others'].map((text, i) => h('tr', {}, h('th', {scope: 'row'}, text), ...cells[i])))),
    h('p', {class: 'head'}, 'what ', h('code', {}, 'print(seen)'), ' says after ', h('code', {}, 'with watch() as seen'), ' around the wrong loop'), printed))

  function ask() {
    const [what, its, why] = MISTAKES[state.mistake], run = wrong[state.mistake]
    panel.querySelector('.predict')?.remove()
    predict(panel, {question: `One of the two loops ${what}. Which curve is that one’s?`, right: its,
      answers: NAMES.map(name => [name, `${why} ${run.kinds.length ? `The watch calls it ${run.kinds.join(' and ')}.` : 'The watch finds nothing.'}`])})
    pick.after(panel.querySelector('.predict')) // below what it asks about; the picker stays where it is, and keeps the focus
    ;['reported', 'true'].forEach((key, i) => [right, run].forEach((r, k) => { cells[i][k].textContent = range(r[key]) }))
    printed.textContent = run.prints
  }

  const update = once(() => {
    const [, its] = MISTAKES[state.mistake], {over} = state, log = Math.log10
    const {X, Y} = axes(plot, wide, {x: [0, END], y: [log(LOW), log(HIGH)], xticks: [0, 200, 400, 600, 800, 1000].map(v => [v, String(v)]), yticks: [.05, .1, .2, .5, 1, 2].map(v => [log(v), String(v)]),
      xlabel: 'step', ylabel: over === 1 ? 'loss' : `loss, mean of ${over} steps`})
    const runs = its ? [right, wrong[state.mistake]] : [wrong[state.mistake], right], curves = runs.map(r => means(r.loss, over).map(v => v / 1000))
    lines.forEach(line => line.classList.toggle('thin', over < 30))
    curves.forEach((v, k) => lines[k].setAttribute('d', v.map((loss, i) => `${i ? 'L' : 'M'}${X(over + i).toFixed(1)} ${Y(log(Math.max(LOW, Math.min(HIGH, loss)))).toFixed(1)}`).join('')))
    const fall = v => `${show(v[0])} at step ${over} to ${show(v.at(-1))} at step ${END}`
    say(`${over === 1 ? 'Each loss as it is' : `Averaged over ${over} steps`}: blue goes from ${fall(curves[0])}, orange from ${fall(curves[1])}. Their largest ${over === 1 ? 'losses' : 'means'} after step 500: ${curves.map(v => show(Math.max(...v.slice(501 - over)))).join(' and ')}.`)
  })
  ask()
  update()
})
