/**
 * Which modes there are, for the process and for single sessions, and what each of them needs.
 */
import { realpathSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'

import { RolltapeError } from '../errors.ts'
import { forwards, replays, type Mode, type OnMiss } from '../mode.ts'
import type { OptionValues } from './definitions.ts'

/** What the modes decide. */
export interface ModeConsequences {
  readonly mode: Mode
  readonly onMiss: OnMiss
  readonly onExhausted: 'error' | 'repeat_last' | 'loop' | 'live'
}

/**
 * Settles the modes, the process's and those of single sessions.
 * @throws RolltapeError `bad_option` or `recording_conflict`.
 */
export function settleModes(values: OptionValues): ModeConsequences {
  const mode = values.mode ?? impliedMode(values)
  const own = [...(values.sessionOverride ?? [])]
  const modes = new Set([mode, ...own.map(([, { mode: of }]) => of ?? mode)])
  checkFiles(values, mode, modes)
  checkUpstream(values, modes)
  checkTurns(values, modes)
  for (const [session, { mode: of }] of own) checkOwnMode(values, session, of)
  return { mode, ...settleMisses(values, mode, modes) }
}

function checkFiles(values: OptionValues, mode: Mode, modes: ReadonlySet<Mode>): void {
  const { recordingFile, replayFile } = values
  const both = modes.size > 1 || mode === 'hybrid' || mode === 'verify'
  if (recordingFile !== null && replayFile !== null) {
    if (!both) {
      throw new RolltapeError(
        'recording_conflict',
        `recording_file ${recordingFile} and replay_file ${replayFile} are both given, and mode ${mode} either records or replays`,
        { hint: 'leave one of them out, or give --mode hybrid or --mode verify' },
      )
    }
    if (isSameRecording(recordingFile, replayFile)) {
      throw new RolltapeError(
        'recording_conflict',
        `recording_file ${recordingFile} is the recording that replay_file ${replayFile} answers from`,
        { hint: 'record into another file' },
      )
    }
  }
  if (replays(mode) && replayFile === null) {
    throw new RolltapeError('bad_option', `mode ${mode} needs a recording, and none is given`, {
      hint: 'give --replay-file (replay_file), such as runs/a.jsonl',
    })
  }
  const needsFile = mode === 'record' || mode === 'verify'
  if (needsFile && recordingFile === null) {
    const what = mode === 'verify' ? 'a file for what differs' : 'a file'
    throw new RolltapeError('bad_option', `mode ${mode} needs ${what}, and none is given`, {
      hint: 'give --recording-file (recording_file), such as runs/b.jsonl',
    })
  }
}

function checkUpstream(values: OptionValues, modes: ReadonlySet<Mode>): void {
  const hasUpstream = values.proxyBaseUrl !== null || (values.proxyRules?.size ?? 0) > 0
  const forwarding = [...modes].find(forwards)
  if (forwarding === undefined || hasUpstream) return
  const message = `mode ${forwarding} forwards requests, and no upstream is given`
  throw new RolltapeError('bad_option', message, {
    hint: 'give --proxy-base-url (proxy_base_url), such as http://127.0.0.1:8000, or proxy_rules',
  })
}

function impliedMode({ replayFile, recordingFile }: OptionValues): Mode {
  if (replayFile !== null) return 'replay'
  return recordingFile === null ? 'passthrough' : 'record'
}

/** What becomes of a request that the recording has no answer to, or none any more. */
function settleMisses(
  values: OptionValues,
  mode: Mode,
  modes: ReadonlySet<Mode>,
): Omit<ModeConsequences, 'mode'> {
  const isHybrid = modes.has('hybrid')
  const live = values.recordingFile === null ? 'passthrough' : 'record'
  const onMiss = values.onMiss ?? (isHybrid ? live : 'error')
  const onExhausted = values.onExhausted ?? (isHybrid ? 'live' : 'error')
  if (!isHybrid && (onMiss !== 'error' || onExhausted === 'live')) {
    const named = onMiss !== 'error' ? `on_miss ${onMiss}` : 'on_exhausted live'
    const message = `${named} asks an upstream, and mode ${mode} does not`
    throw new RolltapeError('bad_option', message, {
      hint: 'give --mode hybrid, or leave it out',
    })
  }
  if (isHybrid && onMiss === 'error') {
    const message = 'on_miss error never asks an upstream, which is what mode replay does'
    throw new RolltapeError('bad_option', message, {
      hint: 'give --mode replay, or --on-miss record or passthrough',
    })
  }
  if (onMiss === 'record' && values.recordingFile === null) {
    throw new RolltapeError('bad_option', 'on_miss record needs a file, and none is given', {
      hint: 'give --recording-file (recording_file), such as runs/b.jsonl',
    })
  }
  return { onMiss, onExhausted }
}

function checkTurns(values: OptionValues, modes: ReadonlySet<Mode>): void {
  const own = [...(values.sessionOverride ?? [])].some(([, one]) => one.replayTurns !== undefined)
  if (modes.has('hybrid') || (values.replayTurns === null && !own)) return
  const message = `replay_turns goes live after some turns, and mode ${[...modes][0]} does not`
  throw new RolltapeError('bad_option', message, { hint: 'give --mode hybrid, or leave it out' })
}

function checkOwnMode(values: OptionValues, session: string, own: Mode | undefined): void {
  if (own === undefined) return
  const lacks =
    replays(own) && values.replayFile === null
      ? 'replay_file'
      : (own === 'record' || own === 'verify') && values.recordingFile === null
        ? 'recording_file'
        : undefined
  if (lacks === undefined) return
  throw new RolltapeError(
    'bad_option',
    `session ${session} has mode ${own}, which needs a ${lacks}`,
    {
      hint: `give --${lacks.replace('_', '-')} (${lacks})`,
    },
  )
}

/** The same file, the tape beside it, or a part of the same recording. */
export function isSameRecording(recordingFile: string, replayFile: string): boolean {
  return tapeOf(recordingFile) === tapeOf(replayFile)
}

function tapeOf(file: string): string {
  const path = realPath(resolve(file))
  return path.replace(/(?:\.\d{6})?\.jsonl$|\.tape$/, '')
}

/** A path with its links resolved, as far as it is there. */
function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    const parent = dirname(path)
    return parent === path ? path : join(realPath(parent), basename(path))
  }
}
