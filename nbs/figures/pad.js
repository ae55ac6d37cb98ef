// Pictures of 28 × 28 numbers, and a pad to draw one on with a finger, a mouse or the arrow keys.
import {h, set} from './figure.js'

const SIZE = 28, ZOOM = 10

/** Show 784 numbers: from 0, black, to 1, white; or, `signed`, from −most, blue, over black to most, orange. */
export function paint(canvas, pixels, signed = false) {
  const data = new ImageData(SIZE, SIZE), most = signed ? Math.max(1e-12, ...Array.from(pixels, Math.abs)) : 1
  pixels.forEach((v, i) => {
    const share = Math.min(1, Math.abs(v) / most), [r, g, b] = !signed ? [255, 255, 255] : v < 0 ? [90, 180, 255] : [255, 150, 70]
    data.data.set([r * share, g * share, b * share, 255], 4 * i)
  })
  canvas.getContext('2d').putImageData(data, 0, 0)
  return canvas
}

/** A canvas with a picture on it, shown `width` pixels wide. */
export function picture(pixels, width, label, signed = false) {
  const canvas = h('canvas', {width: SIZE, height: SIZE, style: `width: ${width}px; height: ${width}px`, ...(label ? {role: 'img', 'aria-label': label} : {'aria-hidden': 'true'})})
  return pixels ? paint(canvas, pixels, signed) : canvas
}

/** The first fifty of `pictures` in rows of ten; a frame around those for which `framed(i)`. */
export function album(canvas, pictures, framed) {
  const ctx = Object.assign(canvas.getContext('2d'), {strokeStyle: '#ff9f5f', lineWidth: 2})
  ctx.clearRect(0, 0, canvas.width, canvas.height)
  pictures.slice(0, 50).forEach((pixels, i) => {
    const x = i % 10 * SIZE, y = Math.floor(i / 10) * SIZE
    ctx.drawImage(picture(pixels, SIZE), x, y)
    if (framed(i)) ctx.strokeRect(x + 1, y + 1, SIZE - 2, SIZE - 2)
  })
}

const plain = new OffscreenCanvas(SIZE, SIZE).getContext('2d', {willReadFrequently: true})

function drawn(strokes, scale, dx, dy) {
  plain.setTransform(1, 0, 0, 1, 0, 0)
  plain.clearRect(0, 0, SIZE, SIZE)
  Object.assign(plain, {lineWidth: 2.3, lineCap: 'round', lineJoin: 'round'})
  plain.beginPath()
  for (const stroke of strokes) {
    stroke.forEach(([x, y], i) => plain[i ? 'lineTo' : 'moveTo'](x * scale + dx, y * scale + dy))
    if (stroke.length === 1) plain.lineTo(stroke[0][0] * scale + dx + .01, stroke[0][1] * scale + dy)
  }
  plain.stroke()
  return Float64Array.from({length: SIZE * SIZE}, ((data, _, i) => data[4 * i + 3] / 256).bind(null, plain.getImageData(0, 0, SIZE, SIZE).data))
}

/** Strokes, lists of points from 0 to 28, as MNIST's makers prepared theirs: 20 pixels large, the ink's centre in the middle. */
export function prepare(strokes) {
  const [xs, ys] = [0, 1].map(k => strokes.flatMap(s => s.map(p => p[k])))
  if (!xs.length) return new Float64Array(SIZE * SIZE)
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)]
  const scale = Math.min(3, 17.7 / Math.max(x1 - x0, y1 - y0, 1e-9)), at = (a, b) => SIZE / 2 - scale * (a + b) / 2
  const [dx, dy] = [at(x0, x1), at(y0, y1)], pixels = drawn(strokes, scale, dx, dy)
  let ink = 0, mx = 0, my = 0
  pixels.forEach((v, i) => { ink += v; mx += v * (i % SIZE + .5); my += v * (Math.floor(i / SIZE) + .5) })
  return drawn(strokes, scale, dx + SIZE / 2 - mx / ink, dy + SIZE / 2 - my / ink)
}

/** A pad to draw on; `changed(pixels)` is called with what the network would get. `clear()` and `put(pixels)` change it. */
export function pad(changed) {
  const canvas = h('canvas', {class: 'pad', width: SIZE * ZOOM, height: SIZE * ZOOM, tabindex: 0, role: 'application',
    'aria-label': 'Pad to draw a digit on. Arrow keys move the pen, space puts it down or lifts it, Delete clears.'})
  const status = h('p', {class: 'hidden', 'aria-live': 'polite'}), e = h('div', {}, canvas, status), ctx = canvas.getContext('2d')
  let strokes = [], shown = null, pen = null, down = false

  function redraw() {
    ctx.fillStyle = '#000'
    ctx.fillRect(0, 0, canvas.width, canvas.height)
    ctx.imageSmoothingEnabled = false
    if (shown) ctx.drawImage(picture(shown, SIZE), 0, 0, canvas.width, canvas.height)
    Object.assign(ctx, {lineWidth: 2.3 * ZOOM, lineCap: 'round', lineJoin: 'round', strokeStyle: '#fff'})
    for (const stroke of strokes) {
      ctx.beginPath()
      stroke.forEach(([x, y], i) => ctx[i ? 'lineTo' : 'moveTo'](x * ZOOM, y * ZOOM))
      if (stroke.length === 1) ctx.lineTo(stroke[0][0] * ZOOM + .1, stroke[0][1] * ZOOM)
      ctx.stroke()
    }
    if (!pen) return
    Object.assign(ctx, {lineWidth: 2, strokeStyle: down ? '#ff9f5f' : '#6cb8f0'})
    ctx.strokeRect((pen[0] - 1) * ZOOM, (pen[1] - 1) * ZOOM, 2 * ZOOM, 2 * ZOOM)
  }

  function update(points) {
    if (shown && points) shown = null
    redraw()
    changed(shown ?? prepare(strokes))
  }

  e.clear = () => { [strokes, shown, down] = [[], null, false]; update() }
  e.put = pixels => { [strokes, shown, down] = [[], pixels, false]; update() }
  const place = event => {
    const box = canvas.getBoundingClientRect()
    return [event.clientX - box.left, event.clientY - box.top].map(v => Math.max(0, Math.min(SIZE, v / box.width * SIZE)))
  }
  set(canvas, {
    pointerdown: event => { canvas.setPointerCapture(event.pointerId); pen = null; strokes.push([place(event)]); update(true) },
    pointermove: event => {
      if (!canvas.hasPointerCapture(event.pointerId)) return
      for (const point of event.getCoalescedEvents?.() ?? [event]) strokes.at(-1).push(place(point))
      update(true)
    },
    blur: () => { pen = null; redraw() },
    keydown: event => {
      const by = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key]
      if (!by && event.key !== ' ' && event.key !== 'Delete') return
      event.preventDefault()
      pen ??= [SIZE / 2, SIZE / 2]
      if (event.key === 'Delete') { e.clear(); status.textContent = 'Empty'; return }
      if (by) pen = pen.map((v, k) => Math.max(2, Math.min(SIZE - 2, v + by[k])))
      else if ((down = !down)) strokes.push([])
      if (down) strokes.at(-1).push(pen)
      status.textContent = `Pen ${down ? 'down' : 'up'}, column ${pen[0]}, row ${pen[1]}`
      down ? update(true) : redraw()
    }})
  redraw()
  return e
}
