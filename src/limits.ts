/**
 * Every bound in one place. Nothing in rolltape grows without one; each says what it bounds, what
 * happens when it is reached, and why it has the value it has.
 */

const KiB = 1024
const MiB = 1024 * KiB

/** Request bodies up to this are gathered and sent in one write; longer ones are streamed. */
export const REQUEST_GATHER_BYTES_MAX = 1 * MiB

/** What an answer, or a body that is streamed, counts for: a block, and what waits in two sockets. */
export const EXCHANGE_BYTES = 64 * KiB
/** A lane's bodies that are read while they wait for a place; the others wait unread. */
export const WAITING_BYTES_MAX = 64 * MiB
/** The longest of them. */
export const WAITING_BODY_BYTES_MAX = 4 * MiB
/** Requests that may wait for a place, at the most that can be configured. Over it: 429. */
export const QUEUE_MAX = 65_536
/** 1xx answers that are passed on before an answer; over it the try ends with `upstream_invalid`. */
export const INTERIM_ANSWERS_MAX = 64

/** Request head the listener takes: line and headers. Over it, node answers 431. */
export const REQUEST_HEAD_BYTES_MAX = 128 * KiB
/** Header count of one request; node drops what is over it, so it is far above what 128 KiB hold. */
export const REQUEST_HEADERS_MAX = 20_000

/** Response head taken from an upstream. Over it the exchange ends with `upstream_invalid`. */
export const RESPONSE_HEAD_BYTES_MAX = 256 * KiB

/** Session and run ids, in bytes after percent-decoding. Over it: 400. */
export const SESSION_ID_BYTES_MAX = 256

/** Sessions whose turns are counted at once (16 bytes each). Over it: 429, `over_capacity`. */
export const SESSIONS_MAX = 1_048_576

/** Characters in a name of a header or parameter that is redacted; longer ones are refused. */
export const NAME_CHARS_MAX = 256

/** Digests of credentials that a lane remembers, 100 bytes each; over it they are made anew. */
export const KEY_HMACS_MAX = 4_096

/** One pooled block a live exchange gathers answer bytes in: memory in flight = streams × this. */
export const BLOCK_BYTES = 16 * KiB

/** Blocks kept for reuse; more are left to the collector. 1024 × 16 KiB = 16 MiB a lane. */
export const BLOCKS_FREE_MAX = 1024

/** A block that is not full goes to the tape after this long, so a crash loses at most a second. */
export const BLOCK_AGE_MS_MAX = 1_000

/** One gather buffer of the tape writer. */
export const SLAB_BYTES = 256 * KiB

/** Gather buffers kept for reuse: 8 × 256 KiB = 2 MiB a lane. */
export const SLABS_FREE_MAX = 8

/** Buffers in one gathered write; below the kernel's IOV_MAX of 1024. */
export const WRITE_BUFFERS_MAX = 512

/** Bytes waiting for the disk at which a lane stops reading from upstreams. */
export const TAPE_PENDING_BYTES_HIGH = 32 * MiB
/** Bytes waiting for the disk at which frames are refused (policy `on_tape_failure`). */
export const TAPE_PENDING_BYTES_MAX = 96 * MiB

/** Requests up to this go out although the disk is behind: they do not wait for large ones. */
export const REQUEST_SMALL_BYTES_MAX = 64 * KiB
/** Bytes waiting for the disk at which they wait as well; what is under way has the rest. */
export const TAPE_PENDING_BYTES_FULL = 64 * MiB

/** Pause before a failed tape write is tried again. */
export const TAPE_RETRY_MS = 250

/** Plain bytes of one zstd frame of a sealed segment: what is unpacked to read any place in it. */
export const SEALED_FRAME_BYTES = 8 * MiB

/** Unpacked frames that a reader of a tape keeps at hand: 4 × 8 MiB a thread. */
export const SEALED_FRAMES_KEPT_MAX = 4

/** How often the free space of the recording's disk is looked at. */
export const SPACE_LOOK_MS = 1_000

/** How often finished segments are looked for, to be sealed or let go. */
export const KEEP_LOOK_MS = 2_000

/** After one could not be, they are left alone for so long. */
export const KEEP_RETRY_MS = 60_000

/** Ends of exchanges a lane keeps for derive; beyond it derive walks the segments. */
export const HINTS_MAX = 1024

/** So many ended exchanges need not wait for more: a task costs 25–30 µs to hand over. */
export const DERIVE_BATCH_ENOUGH = 16

/** Exchanges in one derive task, where so many wait. */
export const DERIVE_BATCH_MAX = 64

/** Tape that the ends in one derive task lie apart at most: their lines are made in memory. */
export const DERIVE_BATCH_BYTES = 4 * MiB

/** Pause before lines that the file did not take are offered again. */
export const APPEND_RETRY_MS = 1_000

/** A derive task that takes longer is taken for hung: its worker is ended, the batch retried. */
export const DERIVE_TIMEOUT_MS = 120_000

/**
 * What one answer may decode to. Over it the answer stays on the tape, and its record has no
 * response and says so.
 */
export const DECODED_BYTES_MAX = 256 * MiB

/**
 * Characters of one unfinished SSE event; a stream with a longer one stays on the tape, and its record
 * has no response and says so. A Responses stream repeats its whole answer in its last event, so
 * events may be large.
 */
export const EVENT_CHARS_MAX = 64 * MiB

/**
 * Longest `.jsonl` line a reader takes; over it, `record_malformed`. V8 holds no string of more
 * than 512 Mi characters.
 */
export const LINE_BYTES_MAX = 384 * MiB

/** Sessions `inspect` tells apart, some 200 bytes each; records of later ones are only counted. */
export const SESSIONS_SUMMED_MAX = 100_000

/**
 * Answers to one prompt that a later prompt is compared with to tell how it drifted; of more, the
 * latest count. Calls that match whole are found whatever their number.
 */
export const DRIFT_SIBLINGS_MAX = 64

/** Tokens that one row group of a Parquet file gathers in memory before it is written. */
export const PARQUET_GROUP_TOKENS_MAX = 1_048_576

/** Rows of one row group. */
export const PARQUET_GROUP_ROWS_MAX = 4_096

/** A client that leaves right after the terminal mark: the upstream has this long to end by itself. */
export const AFTER_MARK_MS_MAX = 250

/** A lane that has not beaten for this long is taken for dead. */
export const LANE_SILENT_MS_MAX = 5_000

/**
 * How long a lane that died is tried to be replaced (its port may be taken for a moment). After
 * that rolltape has failed, and its owner is told.
 */
export const LANE_REPLACE_MS_MAX = 30_000

/** Pause between two tries to replace a lane. */
export const LANE_REPLACE_PAUSE_MS = 500

/** Longest `Retry-After` that is waited for; a longer one ends the retries. */
export const RETRY_DELAY_MS_MAX = 32_000

/** First retry delay; doubled with each try, with full jitter. */
export const RETRY_DELAY_MS_BASE = 2_000

/** How long a resolved upstream address is kept. */
export const DNS_TTL_MS = 10_000

/** How often the derived state is written down; a crash repeats at most this much derive work. */
export const CHECKPOINT_MS = 2_000

/** Labels of one annotation. */
export const ANNOTATION_TAGS_MAX = 64

/** Characters of an annotation's remark. */
export const ANNOTATION_NOTE_CHARS_MAX = 4_096

/** Sessions of a recording that have finished, some 200 bytes each. Over it: RESOURCE_EXHAUSTED. */
export const FINISHED_SESSIONS_MAX = 1_048_576

/** Freezes that wait at once, also for callers that have left. Over it: RESOURCE_EXHAUSTED. */
export const FREEZES_AT_ONCE_MAX = 64

/** How long a freeze waits for the session's exchanges in flight, if its caller waits so long. */
export const FREEZE_WAIT_MS_MAX = 30_000

/** Trajectories that are being read at once, each with a file or two open. Over it: RESOURCE_EXHAUSTED. */
export const TRAJECTORIES_READ_MAX = 64

/** Consumers whose place is kept. Over it: RESOURCE_EXHAUSTED. */
export const CONSUMERS_MAX = 64

/** Bytes of records in one message of a trajectory; clients take 4 MiB unless told otherwise. */
export const TRAJECTORY_PIECE_BYTES = 1 * MiB

/** Finished trajectories that a stream looks up at once. */
export const FINISHES_AT_ONCE = 64

/** Sessions that are summed up for `ListSessions`, some 400 bytes each; the quietest are forgotten. */
export const SESSIONS_LISTED_MAX = 65_536

/** Sessions whose upstream a lane remembers, where it has a choice; beyond, it chooses anew. */
export const ROUTED_SESSIONS_MAX = 16_384
/** Requests that a lane holds while admission is paused. Over it: 429. */
export const HELD_MAX = 4_096

/** Bytes of their bodies, as far as they have come. Over it: 429. */
export const HELD_BODY_BYTES_MAX = 256 * MiB

/** Sessions with a mode, pace or shape of their own. Over it: `over_capacity`. */
export const SESSION_OVERRIDES_MAX = 10_000

/** How long a switch back to a recording waits for it to be left. */
export const LEAVE_WAIT_MS_MAX = 2_000

/** Lanes of one process. Each has its thread, its pools and its segments. */
export const LANES_MAX = 64

/** Runs (replays of one recording side by side) that are told apart. Over it: 429. */
export const RUNS_MAX = 64

/** Methods with paths whose hash a thread keeps at hand; over it all are made anew. */
export const KEY_HEADS_MAX = 4_096

/** Names out of lines that a scan keeps at hand, a power of two; others are read anew. */
export const NAMES_CACHED_MAX = 8_192

/** Threads that read a recording for its index. */
export const INDEX_THREADS_MAX = 4

/** A recording of up to so many bytes is read without a thread, whose start takes longer. */
export const INDEX_GLANCE_BYTES = 2 * MiB

/** Levels of JSON that are compared place by place; deeper down it is the same text or not. */
export const JSON_DEPTH_COMPARED_MAX = 256

/** Keys that clients may hold, about 200 bytes each. */
export const CLIENT_KEYS_MAX = 10_000

/** Between two looks at the files of the data port's certificate. */
export const CERTIFICATE_LOOK_MS = 5_000

/** Times that a replay source is read whose recorder goes on closing parts. */
export const SOURCE_READS_MAX = 4

/** Bytes of a recording that one of them reads in one go; also how often progress is told. */
export const INDEX_STRETCH_BYTES = 16 * MiB

/** Records a recorder gathers before it writes them to the sidecar, 80 bytes each. */
export const SIDECAR_BLOCK_RECORDS = 4_096

/** A sidecar is written where more than this had to be read for want of one. */
export const SIDECAR_WORTH_BYTES = 1 * MiB

/** Bytes of one read. */
export const INDEX_BLOCK_BYTES = 1 * MiB

/** Releases that a run's ring tells other lanes of; who is further behind forgets its hints. */
export const RELEASES_MAX = 256

/** Lists of records a lane remembers its place in, per run; over it all are found anew. */
export const LISTS_HINTED_MAX = 65_536

/** Sets of rules (e.g. last turns) a lane keeps such places for; over it all are found anew. */
export const RULES_HINTED_MAX = 16

/** Recorded answers a lane keeps at hand, in bytes of their bodies; the least recent go. */
export const ANSWERS_CACHED_BYTES_MAX = 64 * MiB

/** Bodies up to this are canonicalized on the lane; longer ones by a worker. */
export const CANONICAL_INLINE_BYTES_MAX = 32 * KiB

/** Recorded requests a miss is compared with. */
export const EXPLAIN_CANDIDATES_MAX = 64

/** Misses that are explained at once; what is over it gets a plain 404. */
export const EXPLAINED_AT_ONCE_MAX = 4

/** Flushes of the recording that wait at once, over all callers. Over it: RESOURCE_EXHAUSTED. */
export const FLUSHES_AT_ONCE_MAX = 64

/** Bytes of a policy version; a longer one is refused. */
export const POLICY_VERSION_BYTES_MAX = 256

/** Pauses of admission at once, each of another scope. Over it: RESOURCE_EXHAUSTED. */
export const PAUSES_MAX = 256

/** Bytes of a model's name in a pause; a longer one is refused. */
export const PAUSE_MODEL_BYTES_MAX = 1024

/** Drains of admission that wait at once, also for callers that have left. Over it: RESOURCE_EXHAUSTED. */
export const DRAINS_AT_ONCE_MAX = 64

/** So long before its caller's deadline a call that waits says what it has waited for in vain. */
export const DEADLINE_MARGIN_MS = 100

/** Loads of a recording that wait or read at once. Over it: RESOURCE_EXHAUSTED. */
export const LOADS_AT_ONCE_MAX = 16

/** Between two messages that tell how far a load is. */
export const LOAD_TOLD_MS = 100

/** How long the control API waits for a lane's or the appender's word on how it is. */
export const STATE_WAIT_MS_MAX = 500

/** Entries of one page of a list, and what a page has when nothing is said. */
export const PAGE_ENTRIES_MAX = 1000

/** Entries of a page where the caller does not say how many. */
export const PAGE_ENTRIES_DEFAULT = 100

/** Callers that watch exchanges at once; each holds a place in the list of events, no events. */
export const WATCHERS_MAX = 2048

/** Events kept for watchers, some 300 bytes each; who falls further behind gets a gap. */
export const WATCH_EVENTS_KEPT_MAX = 4096

/** Events a thread keeps while its last batch is not taken; what is over it is counted as lost. */
export const WATCH_EVENTS_PENDING_MAX = 1024

/** Characters of a text (path, model, error) in an event. */
export const WATCH_TEXT_CHARS_MAX = 256

/** After the last watcher has left, events go on for this long: one that resumes misses none. */
export const WATCH_LINGER_MS = 60_000

/** What open control calls get to end by themselves once rolltape has closed. */
export const CONTROL_CLOSE_MS_MAX = 1_000

/** Characters of a status message: in trailers up to six bytes each, and clients take 16 KiB. */
export const CONTROL_DETAILS_CHARS_MAX = 1_500

/** Largest message the control API takes: a request to be explained, with its body. */
export const CONTROL_MESSAGE_BYTES_MAX = 64 * MiB

/** Longest drain that a Shutdown may ask for: what a Node timer can wait, in whole days. */
export const DRAIN_MS_MAX = 24 * 86_400_000

/**
 * One event of a stream that tokens are taken out of; so much of it a lane holds until it is whole. A
 * longer one passes as it is. Prompt ids of a million tokens have 8 MB.
 */
export const STRIPPED_EVENT_BYTES_MAX = 16 * MiB

/** An answer in one piece, held to take tokens out (500 bytes each); longer ones pass as they are. */
export const STRIPPED_BODY_BYTES_MAX = 64 * MiB

/** An error answer that is looked through for a field that was put in; a longer one names none. */
export const REFUSAL_BYTES_MAX = 64 * KiB

/** Models, by upstream, that are known to refuse log-probs; the ones asked for longest ago go. */
export const REFUSALS_MAX = 1024

/** What an engine answers when it is asked for the version of its weights. */
export const POLICY_ANSWER_BYTES_MAX = 64 * KiB

/** How long that may take. */
export const POLICY_POLL_MS_MAX = 5_000
/** Responders that serve at once, over all queues. Over it: RESOURCE_EXHAUSTED. */
export const RESPONDERS_MAX = 1024

/** Requests that one responder may take at once. */
export const RESPONDER_CREDITS_MAX = 4_096

/** Requests that may wait in one queue, at the most that can be configured. */
export const RESPONDER_QUEUE_MAX = 65_536

/** Bytes of bodies kept for responders, until an answer begins. Over it: 429. */
export const RESPONDER_HELD_BYTES_MAX = 256 * MiB
/** Responders that may die over one request before it is given up. */
export const RESPONDER_DELIVERIES_MAX = 3

/** Sessions whose end responders are told of; those that have been quiet for longest are forgotten. */
export const RESPONDER_SESSIONS_MAX = 65_536

/** Bytes of a body in one message, well below the 4 MiB that gRPC clients take unless told otherwise. */
export const RESPONDER_PART_BYTES = 1 * MiB

/** Messages that wait for a responder that does not read. Over it: its stream is ended. */
export const RESPONDER_OUTBOX_MAX = 4_096

/** Bytes of an answer that wait for a slow client; its responder is told to hold. */
export const RESPONDER_ANSWER_BYTES_HIGH = 256 * KiB

/** Bytes of one at which its responder is read no further. */
export const RESPONDER_ANSWER_BYTES_MAX = 1 * MiB
/** How often requests that have waited too long are looked for. */
export const RESPONDER_TICK_MS = 50

/** Connections that wait to be taken by what stands before responders; the system may have less. */
export const RESPONDER_BACKLOG = 4_096

/** A control connection that is silent for this long is asked whether anybody is there. */
export const CONTROL_PING_MS = 10_000
/** Without an answer for this long it is taken for dead; a caller may be busy for a while. */
export const CONTROL_PING_WAIT_MS = 20_000

/** Processes whose end is watched for. Over it: RESOURCE_EXHAUSTED. */
export const PROCESSES_WATCHED_MAX = 1024
/** How often they are looked at. */
export const PROCESS_LOOK_MS = 100

/** The longest path that Linux takes; nothing else that is given as text needs more. */
export const PATH_CHARS_MAX = 4_096
