/**
 * How much is served at once: what a user may say, what the rest of the code reads, and the way from
 * one to the other.
 */
import { RolltapeError } from '../errors.ts'
import { EXCHANGE_BYTES } from '../limits.ts'
import type { BytesOption, DurationOption } from '../options.ts'
import type { OptionValues } from './definitions.ts'

/** Part of what a library user passes to `startRolltape`. */
export interface CapacityFace {
  /** Exchanges that run at once, up to 1,000,000; 0, the default, is no bound. */
  readonly maxInFlight?: number
  /** What they may hold in memory; 0 is no bound. Default 1 GiB. */
  readonly maxInFlightBytes?: BytesOption
  /** Requests from 0 to 65,536 that may wait for a place; those over it get 429. Default 1024. */
  readonly maxQueue?: number
  /** Time one waits before it gets 429; 0 is no bound. Default 30 s. */
  readonly queueTimeout?: DurationOption
  /** Time until a request's head must have come; 0 is no bound. Default 60 s. */
  readonly clientHeaderTimeout?: DurationOption
  /** Time between two pieces of a request's body; 0 is no bound. Default 60 s. */
  readonly clientBodyTimeout?: DurationOption
}

/** Part of a configuration. */
export interface CapacityConfig {
  /** 0 is no bound, here and below, `maxQueue` excepted. */
  readonly maxInFlight: number
  readonly maxInFlightBytes: number
  /** 0: nobody waits. */
  readonly maxQueue: number
  readonly queueTimeoutMs: number
  readonly clientHeaderTimeoutMs: number
  readonly clientBodyTimeoutMs: number
}

/**
 * Settles these options.
 * @throws RolltapeError `bad_option` for a budget that the largest request does not fit in: it would
 *   wait for ever.
 */
export function capacityConfigOf(values: OptionValues): CapacityConfig {
  const { maxInFlightBytes, requestBodyBytesMax } = values
  const least = requestBodyBytesMax + EXCHANGE_BYTES
  if (maxInFlightBytes > 0 && maxInFlightBytes < least) {
    const message = `max_in_flight_bytes ${maxInFlightBytes} is less than the largest request takes: request_body_bytes_max ${requestBodyBytesMax} and ${EXCHANGE_BYTES} for its answer`
    throw new RolltapeError('bad_option', message, {
      hint: `give at least ${least}, or a smaller --request-body-bytes-max (request_body_bytes_max)`,
    })
  }
  return {
    maxInFlight: values.maxInFlight,
    maxInFlightBytes,
    maxQueue: values.maxQueue,
    queueTimeoutMs: values.queueTimeout,
    clientHeaderTimeoutMs: values.clientHeaderTimeout,
    clientBodyTimeoutMs: values.clientBodyTimeout,
  }
}
