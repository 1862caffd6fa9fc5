/** The options of credentials and of trust in upstreams; part of the table in `definitions.ts`. */
import type { OptionDefinition } from './definition.ts'
import { fieldName, list, text, toggle } from './kinds.ts'

/** Whom upstreams are trusted by. */
export const UPSTREAM_TLS_OPTIONS = {
  upstreamCa: {
    kind: text('file.pem', 'ca.pem'),
    default: null,
    shown: "none beyond Node's own",
    group: 'upstream',
    help: 'certificates of authorities that https upstreams are trusted by, besides the known ones',
    why: 'an inference server inside a cluster has a certificate that no public authority gave',
  },
  upstreamInsecure: {
    kind: toggle(),
    default: 'false',
    group: 'upstream',
    help: 'take any certificate of https upstreams, whoever shows it',
    why: 'for a try-out only: whoever stands between reads prompts and keys; each start warns',
  },
} as const satisfies Record<string, OptionDefinition>

/** What is kept of nobody. */
export const REDACTION_OPTIONS = {
  redactHeader: {
    kind: list(
      fieldName(
        ['content-type', 'content-encoding', 'content-length'],
        'a recorded body cannot be read without it',
      ),
      "names of headers (letters, digits and !#$%&'*+-.^_`|~)",
      'x-team-key',
    ),
    default: null,
    shown: 'none beyond those that are always',
    group: 'recording',
    help: 'headers, asked or answered, whose values are kept off disk, logs and replay keys',
    why: "always: authorization, proxy-authorization, x-api-key, x-goog-api-key, api-key, cookie, set-cookie; an organisation's own is added here",
  },
  redactQuery: {
    kind: list(
      fieldName([], ''),
      "names of query parameters (letters, digits and !#$%&'*+-.^_`|~)",
      'tenant_key',
    ),
    default: null,
    shown: 'none beyond those that are always',
    group: 'recording',
    help: 'query parameters whose values are; to be given for replay as well',
    why: 'always: key, api_key, api-key, access_token, token',
  },
} as const satisfies Record<string, OptionDefinition>
