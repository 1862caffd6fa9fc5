/**
 * A radix trie over token ids: what a session's calls have in common is kept once. Finding the
 * longest known beginning of a prompt costs one comparison per id of it; memory grows with the ids
 * that are new, not with the length of the prompts.
 *
 * Between two calls of its methods every sequence that was grown ends at a node of its own, and no
 * node but the root is without ids.
 */

/** A node; the ids from the root to it are a beginning that some call has. */
export interface TrieNode<Call> {
  /** The ids between its parent and it. */
  ids: Int32Array
  parent: TrieNode<Call> | null
  /** How many ids lead to it. */
  readonly depth: number
  readonly children: Map<number, TrieNode<Call>>
  /** Calls whose prompt ends here. */
  readonly prompts: Call[]
  /** Calls whose completion ends here. */
  readonly completions: Call[]
  /** The last call that grew through here. */
  last: Call | undefined
}

/** How far a prompt is known. */
export interface Walk<Call> {
  /** How many of its ids are a known beginning. */
  readonly depth: number
  /** The deepest node on the way at which a completion ends. */
  readonly completed: TrieNode<Call> | undefined
  /** The deepest node on the way, short of the prompt's own end, at which a prompt ends. */
  readonly prompted: TrieNode<Call> | undefined
  /** The last call that grew through the place where the walk ended. */
  readonly last: Call | undefined
}

/** The trie of one session. */
export class TokenTrie<Call> {
  readonly root: TrieNode<Call> = makeNode(null, new Int32Array(0), 0)

  /** Follows `ids` as far as they are known. O(`ids`). */
  walk(ids: Int32Array): Walk<Call> {
    let node = this.root
    let completed: TrieNode<Call> | undefined
    let prompted: TrieNode<Call> | undefined
    for (;;) {
      if (node.completions.length > 0) completed = node
      if (node.prompts.length > 0 && node.depth < ids.length) prompted = node
      const next = node.depth < ids.length ? node.children.get(ids[node.depth] ?? 0) : undefined
      if (next === undefined) return { depth: node.depth, completed, prompted, last: node.last }
      const common = commonLength(next.ids, ids.subarray(node.depth))
      if (common < next.ids.length) {
        return { depth: node.depth + common, completed, prompted, last: next.last }
      }
      node = next
    }
  }

  /**
   * Grows `ids` below a node and gives the node at their end. `owned` ids are kept as they are, of
   * others only what is new is copied. O(`ids`).
   */
  grow(from: TrieNode<Call>, ids: Int32Array, call: Call, owned: boolean): TrieNode<Call> {
    let node = from
    let at = 0
    node.last = call
    while (at < ids.length) {
      const next = node.children.get(ids[at] ?? 0)
      if (next === undefined) {
        const rest = owned ? ids.subarray(at) : ids.slice(at)
        const leaf = makeNode<Call>(node, rest, node.depth + rest.length)
        node.children.set(rest[0] ?? 0, leaf)
        node = leaf
        at = ids.length
      } else {
        const common = commonLength(next.ids, ids.subarray(at))
        node = common < next.ids.length ? split(next, common) : next
        at += common
      }
      node.last = call
    }
    return node
  }
}

/** The ids from the root to a node. O(depth). */
export function idsTo<Call>(end: TrieNode<Call>): Int32Array {
  const ids = new Int32Array(end.depth)
  for (let node: TrieNode<Call> | null = end; node !== null; node = node.parent) {
    ids.set(node.ids, node.depth - node.ids.length)
  }
  return ids
}

/** How many ids two lists begin with in common. */
export function commonLength(a: Int32Array, b: Int32Array): number {
  const length = Math.min(a.length, b.length)
  let at = 0
  while (at < length && a[at] === b[at]) at++
  return at
}

/** Puts a node into the edge to `lower`, behind its first `length` ids; `lower` stays who it is. */
function split<Call>(lower: TrieNode<Call>, length: number): TrieNode<Call> {
  const { parent, ids } = lower
  const upper = makeNode<Call>(parent, ids.subarray(0, length), lower.depth - ids.length + length)
  upper.last = lower.last
  lower.ids = ids.subarray(length)
  lower.parent = upper
  upper.children.set(lower.ids[0] ?? 0, lower)
  parent?.children.set(ids[0] ?? 0, upper)
  return upper
}

function makeNode<Call>(
  parent: TrieNode<Call> | null,
  ids: Int32Array,
  depth: number,
): TrieNode<Call> {
  return { ids, parent, depth, children: new Map(), prompts: [], completions: [], last: undefined }
}
