/** Rules between the options of the control API: who may reach it, and what goes together. */
import { RolltapeError } from '../errors.ts'
import { queuesOf } from '../responder/address.ts'
import { formatControlAddress } from './control-address.ts'
import type { ControlAddress } from './control-address.ts'
import type { OptionValues } from './definitions.ts'
import { isLoopback } from './rules.ts'

/** Checks them. Throws `bad_option`. */
export function checkControl(values: OptionValues): void {
  const { control, controlTlsCert, controlTlsKey, controlClientCa, controlTokenFile } = values
  if (control === null) return
  if ((controlTlsCert === null) !== (controlTlsKey === null)) {
    const [given, missing] =
      controlTlsCert === null ? ['tls_key', 'tls-cert'] : ['tls_cert', 'tls-key']
    throw new RolltapeError('bad_option', `control_${given} is given without its other half`, {
      hint: `give --control-${missing} (control_${missing.replace('-', '_')}) too`,
    })
  }
  if (controlClientCa !== null && controlTlsCert === null) {
    throw new RolltapeError(
      'bad_option',
      'control_client_ca asks callers for certificates, and without TLS they show none',
      { hint: 'give --control-tls-cert and --control-tls-key too' },
    )
  }
  if (control.kind === 'unix' || isLoopback(control.host)) return
  if (controlTlsCert !== null || controlTokenFile !== null) return
  throw new RolltapeError(
    'bad_option',
    `control ${formatControlAddress(control)} is not a loopback address, and everybody who reaches it could steer rolltape`,
    {
      hint: 'listen on 127.0.0.1 or a unix: socket, or give --control-token-file, or --control-tls-cert with --control-tls-key',
    },
  )
}

/** Responders come in by the control API. Throws `bad_option`. */
export function checkResponder(
  config: Parameters<typeof queuesOf>[0] & { readonly control: ControlAddress | null },
): void {
  const [queue] = queuesOf(config)
  if (queue === undefined || config.control !== null) return
  throw new RolltapeError(
    'bad_option',
    `queue ${queue} is served over the control API, and that is off`,
    { hint: 'give --control (control), such as 127.0.0.1:50051, or another upstream' },
  )
}
