/** The options of the control API; part of the table in `definitions.ts`. */
import { controlAddress } from './control-address.ts'
import type { OptionDefinition } from './definition.ts'
import { text } from './kinds.ts'

/** Where the control API listens, and who may use it. */
export const CONTROL_OPTIONS = {
  control: {
    kind: controlAddress,
    default: '127.0.0.1:50051',
    group: 'control',
    help: 'where the gRPC control API listens; port 0 picks a free one',
    why: 'off where nobody steers it; several instances on one machine need different ports',
  },
  controlTlsCert: {
    kind: text('file.pem', 'control.pem'),
    default: null,
    shown: 'none',
    group: 'control',
    help: 'certificate chain of the control API',
    why: 'an address that is not loopback needs TLS or a token',
  },
  controlTlsKey: {
    kind: text('file.pem', 'control-key.pem'),
    default: null,
    shown: 'none',
    group: 'control',
    help: 'key of the certificate',
    why: 'given together with the certificate',
  },
  controlClientCa: {
    kind: text('file.pem', 'clients.pem'),
    default: null,
    shown: 'none',
    group: 'control',
    help: 'callers must show a certificate of this authority (mTLS)',
    why: 'TLS alone hides what is said, and lets everybody say it',
  },
  controlTokenFile: {
    kind: text('file', 'control.token'),
    default: null,
    shown: 'none',
    group: 'control',
    help: 'callers must bring the token in this file, as `authorization: Bearer <token>`',
    why: 'other users of the machine reach a loopback port too; health stays open',
  },
} as const satisfies Record<string, OptionDefinition>
