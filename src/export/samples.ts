/**
 * `samples`: one JSON line per training sequence, as `buildSamples` makes them, with what a trainer
 * said about the session. Memory holds the ids of one session, each beginning once.
 */
import { Forest } from '../samples/forest.ts'
import { samplesOf } from '../samples/leaves.ts'
import { annotationOf } from './exporter.ts'
import type { Exporter, ExportSink, ExportTally } from './exporter.ts'
import type { ExportSession } from './source.ts'
import type { Sample } from '../samples/sample.ts'

/** A sample and what was said about its session, whose tags come over those of its last call. */
export type AnnotatedSample = Sample & ReturnType<typeof annotationOf>

/** The samples of one session. */
export function* annotatedSamples(session: ExportSession): Generator<AnnotatedSample> {
  const forest = new Forest()
  for (const { record, retryOf } of session.records()) forest.add(record, retryOf)
  for (const sample of samplesOf(forest)) {
    yield { ...sample, tags: { ...sample.tags, ...session.note.tags }, ...annotationOf(session) }
  }
}

/** Writes them as JSON lines. */
export function samplesExporter(sink: ExportSink, tally: ExportTally): Exporter {
  return {
    async session(session) {
      for (const sample of annotatedSamples(session)) {
        await sink.write(`${JSON.stringify(sample)}\n`)
        tally.written++
      }
    },
    end: async () => undefined,
  }
}
