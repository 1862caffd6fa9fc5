/** Plots of a bench's results as SVG: bars of a case, and CPU per chunk as streams grow. */
import type { Case } from './cases.ts'
import { summarize } from './report.ts'
import type { Sample, Spread, Summary } from './report.ts'

const WIDTH = 760
const LEFT = 190
const RIGHT = 130
const ROW = 26
const TOP = 54
const OURS = '#c2410c'
const BASE = '#1d4ed8'
const OTHERS = '#94a3b8'

/** Bars of CPU per operation, with the range over the rounds; the axis is logarithmic where it must. */
export function plotCase(one: Case, summaries: readonly Summary[]): string {
  const order = one.arms.map(({ name }) => name)
  const shown = [...summaries]
    .filter(({ laneUs }) => laneUs.median > 0)
    .sort((a, b) => order.indexOf(a.arm) - order.indexOf(b.arm))
  const base = shown.find(({ arm }) => arm === one.base)
  const values = shown.flatMap(({ laneUs }) => [laneUs.min, laneUs.max])
  const scale = scaleOf(Math.min(...values), Math.max(...values))
  const bars = shown.map((summary, i) => bar(summary, base?.laneUs, TOP + i * ROW, scale))
  const height = TOP + shown.length * ROW + 34
  const axis = scale.ticks.map((tick) => {
    const x = scale.x(tick)
    const line = `<line x1="${x}" x2="${x}" y1="${TOP - 6}" y2="${height - 28}" stroke="#e2e8f0"/>`
    return `${line}${text(x, height - 12, String(tick), 'middle', '#64748b')}`
  })
  const logarithmic = scale.isLogarithmic ? ', logarithmic' : ''
  const subtitle = `µs of CPU per ${one.unit} in the serving thread${logarithmic}; bar: median, line: range`
  return svg(height, [
    text(12, 22, `${one.name}: ${one.title}`, 'start', '#0f172a', 15),
    text(12, 40, subtitle, 'start', '#64748b'),
    ...axis,
    ...bars,
  ])
}

/** CPU per chunk against streams, for the arms that all of these cases have. */
export function plotStreams(samples: readonly Sample[]): string {
  const names = [...new Set(samples.map((sample) => sample.case))]
  const points = names
    .filter((name) => /^sse-\d+$/.test(name))
    .map((name) => ({ streams: Number(name.slice(4)), summaries: summarize(samples, name) }))
    // What one stream costs is what waking up costs.
    .filter(({ streams }) => streams > 1)
    .sort((a, b) => a.streams - b.streams)
  const arms = ['nginx', 'rolltape passthrough', 'rolltape record']
  const of = (arm: string, summaries: readonly Summary[]): number =>
    summaries.find((summary) => summary.arm === arm)?.laneUs.median ?? 0
  const top = Math.max(1, ...points.flatMap((at) => arms.map((arm) => of(arm, at.summaries))))
  const height = 320
  const x = (streams: number): number =>
    LEFT - 120 + (Math.log10(streams / 64) / 1.9) * (WIDTH - 280)
  const y = (us: number): number => height - 50 - (us / top) * (height - 120)
  const labels: Label[] = []
  const lines = arms.map((arm, i) => {
    const colour = [BASE, '#ea9a6b', OURS][i] ?? OTHERS
    const at = points.map(({ streams, summaries }) => [x(streams), y(of(arm, summaries))] as const)
    const path = at.map(([px, py], k) => `${k === 0 ? 'M' : 'L'}${px.toFixed(1)},${py.toFixed(1)}`)
    const dots = at.map(([px, py]) => `<circle cx="${px}" cy="${py}" r="3" fill="${colour}"/>`)
    const [endX, endY] = at.at(-1) ?? [0, 0]
    labels.push({ x: endX + 8, y: endY + 4, words: arm, colour })
    return `<path d="${path.join('')}" fill="none" stroke="${colour}"/>${dots.join('')}`
  })
  const axis = points.map(({ streams }) =>
    text(x(streams), height - 26, String(streams), 'middle', '#64748b'),
  )
  const steps = [0, top / 2, top].map((us) =>
    text(LEFT - 134, y(us) + 4, us.toFixed(0), 'end', '#64748b'),
  )
  return svg(height, [
    text(12, 22, 'CPU per chunk as streams grow', 'start', '#0f172a', 15),
    text(12, 40, 'µs in the serving thread per 300 B chunk, against streams', 'start', '#64748b'),
    ...axis,
    ...steps,
    ...lines,
    ...apart(labels),
  ])
}

/** Throughput against latency: each arm with one request at a time, and with 64. */
export function plotFrontier(samples: readonly Sample[]): string {
  const [alone, many] = ['one-by-one', 'unary-1k'].map((name) => summarize(samples, name))
  const lines = (many ?? [])
    .filter(({ arm }) => arm !== 'direct' && !/^rolltape record./.test(arm))
    .flatMap((at64) => {
      const at1 = alone?.find(({ arm }) => arm === at64.arm)
      return at1 === undefined ? [] : [{ arm: at64.arm, points: [at1, at64] }]
    })
  const height = 420
  const rates = lines.flatMap(({ points }) => points.map((at) => at.perSecond.median))
  const times = lines.flatMap(({ points }) => points.map((at) => at.p50Us.median))
  const across = decades(rates, LEFT - 130, WIDTH - RIGHT - 40)
  const up = decades(times, height - 50, 70)
  const labels: Label[] = []
  const drawn = lines.map(({ arm, points }) => {
    const colour = arm.startsWith('rolltape') ? OURS : arm === 'nginx' ? BASE : OTHERS
    const at = points.map((one) => [across.at(one.perSecond.median), up.at(one.p50Us.median)])
    const path = at.map(
      ([x = 0, y = 0], i) => `${i === 0 ? 'M' : 'L'}${x.toFixed(1)},${y.toFixed(1)}`,
    )
    const dots = at.map(([x = 0, y = 0]) => `<circle cx="${x}" cy="${y}" r="3" fill="${colour}"/>`)
    const [endX = 0, endY = 0] = at.at(-1) ?? []
    labels.push({ x: endX + 7, y: endY + 4, words: arm, colour })
    return `<path d="${path.join('')}" fill="none" stroke="${colour}"/>${dots.join('')}`
  })
  const ticks = [
    ...across.ticks.map((rate) =>
      text(across.at(rate), height - 26, `${rate.toLocaleString('en')}/s`, 'middle', '#64748b'),
    ),
    ...up.ticks.map((us) => text(52, up.at(us) + 4, `${us / 1000} ms`, 'end', '#64748b')),
  ]
  return svg(height, [
    text(12, 22, 'Throughput against latency, unary 1 KB', 'start', '#0f172a', 15),
    text(12, 40, 'median latency with one request at a time, and with 64', 'start', '#64748b'),
    ...ticks,
    ...drawn,
    ...apart(labels),
  ])
}

/** A name beside the end of a line. */
interface Label {
  readonly x: number
  readonly y: number
  readonly words: string
  readonly colour: string
}

/** Labels as text, from the top down, none over another. */
function apart(labels: readonly Label[]): string[] {
  let lowest = -Infinity
  return labels
    .toSorted((a, b) => a.y - b.y)
    .map(({ x, y, words, colour }) => {
      lowest = Math.max(y, lowest + 13)
      return text(x, lowest, words, 'start', colour, 11)
    })
}

/** A logarithmic axis of whole decades around these values, from one place to another. */
function decades(values: readonly number[], from: number, to: number) {
  const low = Math.floor(Math.log10(Math.min(...values)))
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values))))
  const at = (value: number): number =>
    from + ((Math.log10(value) - low) / (high - low)) * (to - from)
  return { at, ticks: Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i)) }
}

interface Scale {
  readonly isLogarithmic: boolean
  readonly ticks: readonly number[]
  x(value: number): number
}

function scaleOf(min: number, max: number): Scale {
  const room = WIDTH - LEFT - RIGHT
  if (max / min < 12) {
    const step = niceStep(max / 4)
    const ticks = Array.from({ length: Math.ceil(max / step) + 1 }, (_, i) => i * step)
    const top = ticks.at(-1) ?? max
    return { isLogarithmic: false, ticks, x: (value) => LEFT + (value / top) * room }
  }
  const [from, to] = [Math.floor(Math.log10(min)), Math.ceil(Math.log10(max))]
  const ticks = Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i))
  const x = (value: number): number => LEFT + ((Math.log10(value) - from) / (to - from)) * room
  return { isLogarithmic: true, ticks, x }
}

function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough))
  return ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power
}

function bar({ arm, laneUs }: Summary, base: Spread | undefined, y: number, scale: Scale): string {
  const colour = arm.startsWith('rolltape') ? OURS : laneUs === base ? BASE : OTHERS
  const [to, low, high] = [laneUs.median, laneUs.min, laneUs.max].map((us) => scale.x(us)) as [
    number,
    number,
    number,
  ]
  const middle = y + ROW / 2
  const ratio = base === undefined ? '' : ` ${(laneUs.median / base.median).toFixed(2)}×`
  return [
    text(LEFT - 8, middle + 4, arm, 'end', '#0f172a'),
    `<rect x="${LEFT}" y="${y + 4}" width="${Math.max(1, to - LEFT).toFixed(1)}" height="${ROW - 8}" fill="${colour}"/>`,
    `<line x1="${low.toFixed(1)}" x2="${high.toFixed(1)}" y1="${middle}" y2="${middle}" stroke="#0f172a"/>`,
    text(
      Math.max(to, high) + 6,
      middle + 4,
      `${laneUs.median.toFixed(1)}${ratio}`,
      'start',
      '#0f172a',
    ),
  ].join('')
}

function text(
  x: number,
  y: number,
  words: string,
  anchor: 'start' | 'middle' | 'end',
  fill: string,
  size = 12,
): string {
  const escaped = words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" font-size="${size}" text-anchor="${anchor}" fill="${fill}">${escaped}</text>`
}

function svg(height: number, parts: readonly string[]): string {
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`
  const back = `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="system-ui, sans-serif">${back}\n${parts.join('\n')}\n</svg>\n`
}
