// What the figures share: the element, controls, axes, handles, the sentence for a screen reader, the question before the answer.
const SVG = new Set(['svg', 'g', 'path', 'line', 'circle', 'rect', 'text', 'image'])
const sheet = new CSSStyleSheet()
const styled = fetch(new URL('figure.css', import.meta.url)).then(r => r.text()).then(text => sheet.replace(text))
let ids = 0

/** Define <mb-NAME>: `caption` says what to do; `build(panel, element)` fills the panel. The static picture stays until it is done, or if it fails. */
export function define(name, caption, build) {
  customElements.define(`mb-${name}`, class extends HTMLElement {
    async connectedCallback() {
      if (this.begun) return
      this.begun = true
      const panel = h('div', {class: `panel ${name}`, role: 'group', 'aria-label': 'Figure that you can change', 'aria-describedby': 'caption'})
      try { await Promise.all([styled, build(panel, this)]) }
      catch (error) { return console.warn(`mb-${name} stays a picture:`, error) }
      panel.prepend(h('p', {class: 'caption', id: 'caption'}, caption))
      Object.assign(this.attachShadow({mode: 'open'}), {adoptedStyleSheets: [sheet]}).append(panel)
    }
  })
}

/** Set attributes of an element; a function is a listener, true and false switch an attribute. */
export function set(e, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') e.addEventListener(key, value)
    else if (typeof value === 'boolean') e.toggleAttribute(key, value)
    else e.setAttribute(key, value)
  }
  return e
}

/** Make an element, of HTML or SVG. */
export function h(tag, attributes = {}, ...children) {
  const e = SVG.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag)
  e.append(...children)
  return set(e, attributes)
}

/** A number as a reader wants it: a real minus sign, so many digits, `inf` and `nan` as Python writes them. */
export function show(v, digits = 2) {
  if (!Number.isFinite(v)) return Number.isNaN(v) ? 'nan' : v > 0 ? 'inf' : '−inf'
  const big = Math.abs(v) >= 1e5 || (v !== 0 && Math.abs(v) < .5 * 10 ** -Math.max(digits, 1))
  return (big ? v.toExponential(1).replace('+', '') : v.toFixed(digits)).replace(/^-(?=[0.]*$)/, '').replaceAll('-', '−')
}

/** Run `f` once in the next frame, however often it is asked for. */
export function once(f) {
  let asked = 0
  return () => { asked ||= requestAnimationFrame(() => { asked = 0; f() }) }
}

/** A labelled slider: from `min` to `max`, or through a list of `values`. Arrow keys move by `key`, page keys by ten such steps. */
export function slider({label, min = 0, max, step = 'any', key, values, value, text = show, input}) {
  if (values) [min, max, step, key] = [0, values.length - 1, 1, 1]
  const at = v => values ? values[v] : Number(v), id = `mb${ids++}`
  const range = h('input', {type: 'range', id, min, max, step, value: values ? values.indexOf(value) : value})
  const output = h('output', {for: id}), e = h('div', {class: 'slider'}, h('label', {for: id}, label), range, output)
  const tell = () => { output.textContent = text(e.value); range.setAttribute('aria-valuetext', text(e.value)) }
  const change = v => { range.value = v; tell(); input(e.value) }
  Object.defineProperty(e, 'value', {get: () => at(range.value), set: v => { range.value = values ? values.indexOf(v) : v; tell() }})
  set(range, {input: () => { tell(); input(e.value) }, keydown: event => {
    const by = {ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10}[event.key]
    if (!key || !by) return
    event.preventDefault()
    change(Math.round((Number(range.value) + by * key) / key) * key)
  }})
  tell()
  return e
}

/** Buttons of which one is chosen: options are [value, text] pairs. */
export function choice({label, options, value, input}) {
  const name = `mb${ids++}`
  const e = h('fieldset', {class: 'choice'}, h('legend', {}, label), ...options.map(([v, text]) => h('label', {},
    h('input', {type: 'radio', name, value: v, ...(v === value && {checked: true}), change: () => input(v)}), h('span', {}, text))))
  Object.defineProperty(e, 'value', {set: v => e.querySelectorAll('input').forEach(i => { i.checked = i.value === String(v) })})
  return e
}

export const button = (text, click, attributes = {}) => h('button', {type: 'button', click, ...attributes}, text)

/** A sentence under the figure. Seen at once; a screen reader hears it when it has been still for half a second. */
export function speaker(panel, kind = '') {
  const seen = h('p', {class: `says ${kind}`, 'aria-hidden': 'true'}), heard = h('p', {class: 'hidden', 'aria-live': 'polite'})
  let timer
  panel.append(seen, heard)
  return text => {
    if (seen.textContent === text) return
    seen.textContent = text
    clearTimeout(timer)
    timer = setTimeout(() => { heard.textContent = seen.checkVisibility({visibilityProperty: true}) ? seen.textContent : '' }, 500)
  }
}

/** Ask before showing: what has the class `answer` is hidden until one of `answers`, [text, why], is chosen. `right` is its number. */
export function predict(panel, {question, answers, right, shown = () => {}}) {
  const reply = h('p', {class: 'reply', 'aria-live': 'polite'})
  const e = h('div', {class: 'predict'}, h('p', {}, h('strong', {}, 'Your guess first. '), question, h('span', {class: 'hint'}, ' The rest of the figure appears when you have chosen.')),
    h('div', {class: 'row'}, ...answers.map(([text, why], i) => button(text, event => {
      reply.textContent = `${i === right ? 'Yes:' : 'No:'} “${answers[right][0]}” is right. ${why ?? answers[right][1]}`
      e.querySelectorAll('button').forEach((b, j) => set(b, {disabled: true, class: j === right ? 'right' : j === i ? 'wrong' : ''}))
      event.currentTarget.append(' (your guess)')
      panel.classList.remove('veiled')
      shown()
    }))), reply)
  panel.classList.add('veiled')
  panel.prepend(e)
}

/** A drawing as wide as its place: `draw(width)` is called when that changes. */
export function stage(label, height, draw) {
  const svg = h('svg', {class: 'stage', role: 'group', 'aria-label': label, height})
  let width = 0
  new ResizeObserver(([{contentRect}]) => { if (contentRect.width && contentRect.width !== width) draw(width = contentRect.width) }).observe(svg)
  return svg
}

/** Axes inside `svg`: scales `X` and `Y` from data to pixels, their inverses `x` and `y`. Ticks are [place, text] pairs. */
export function axes(svg, width, {x: [x0, x1], y: [y0, y1], xticks, yticks, xlabel, ylabel, left = 44}) {
  const height = svg.getAttribute('height'), [top, right, bottom] = [24, 14, 40], w = width - left - right, t = height - top - bottom
  const X = v => left + (v - x0) / (x1 - x0) * w, Y = v => top + (y1 - v) / (y1 - y0) * t
  const label = (x, y, text, anchor = 'middle') => h('text', {x, y, 'text-anchor': anchor}, text)
  svg.querySelector('.axes')?.remove()
  svg.prepend(h('g', {class: 'axes', 'aria-hidden': 'true'},
    ...xticks.map(([v, text]) => h('g', {}, h('line', {class: 'tick', x1: X(v), x2: X(v), y1: height - bottom, y2: height - bottom + 5}), label(X(v), height - bottom + 18, text))),
    ...yticks.map(([v, text]) => h('g', {}, h('line', {class: 'grid', x1: left, x2: left + w, y1: Y(v), y2: Y(v)}), label(left - 7, Y(v) + 4, text, 'end'))),
    h('line', {class: 'axis', x1: left, x2: left + w, y1: height - bottom, y2: height - bottom}),
    label(left + w, height - 4, xlabel, 'end'), label(2, 13, ylabel, 'start')))
  return {X, Y, x: px => x0 + (px - left) / w * (x1 - x0), y: py => y1 - (py - top) / t * (y1 - y0)}
}

/** A point to drag: `drag(px, py)` in the drawing's pixels, `nudge(dx, dy)` in steps of an arrow key. `place` moves it and tells its value. */
export function handle(svg, {label, min, max, drag, nudge}) {
  const e = h('g', {class: 'handle', role: 'slider', tabindex: 0, 'aria-label': label, 'aria-valuemin': min, 'aria-valuemax': max},
    h('circle', {r: 20, class: 'reach'}), h('circle', {r: 9, class: 'knob'}))
  const move = event => { const box = svg.getBoundingClientRect(); drag(event.clientX - box.left, event.clientY - box.top) }
  set(e, {
    pointerdown: event => { event.preventDefault(); e.focus(); e.setPointerCapture(event.pointerId); move(event) },
    pointermove: event => { if (e.hasPointerCapture(event.pointerId)) move(event) },
    keydown: event => {
      const [dx, dy] = {ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], PageUp: [0, 10], PageDown: [0, -10]}[event.key] ?? []
      if (dx === undefined) return
      event.preventDefault()
      nudge(dx, dy)
    }})
  e.place = (x, y, now, text) => set(e, {transform: `translate(${x} ${y})`, 'aria-valuenow': now, 'aria-valuetext': text})
  svg.append(e)
  return e
}
