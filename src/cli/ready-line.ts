/**
 * The one line that `serve` prints on stdout: `rolltape listening on <url> control <address> mode <mode>`,
 * without the control part where there is no control API.
 */

/** What the line says about a running rolltape. */
export interface ReadyLine {
  readonly url: string
  readonly mode: string
  /** Undefined when the control API is off. */
  readonly control: string | undefined
}

/** Formats the line that `serve` prints once it is ready. */
export function formatReadyLine({ url, mode, control }: ReadyLine): string {
  const steered = control === undefined ? '' : ` control ${control}`
  return `rolltape listening on ${url}${steered} mode ${mode}`
}

/** Reads a ready line, also one that says more; undefined for any other line. */
export function parseReadyLine(line: string): ReadyLine | undefined {
  const match = /^rolltape listening on (\S+)(?: control (\S+))?(?: .*)? mode (\S+)$/.exec(line)
  return match === null
    ? undefined
    : { url: match[1] ?? '', control: match[2], mode: match[3] ?? '' }
}
