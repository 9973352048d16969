/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/tokenizer_bpe.c: merging the bytes of one pre-token into tokens.
 *
 * The pair of neighbours with the lowest rank is merged, the leftmost of equals first, until no
 * pair is left that any merge names. Neighbours are a linked list, candidates a heap of (rank,
 * position) in which outdated entries stay until they come up: O(n log n) for any input.
 * Words repeat, so a call that encodes much text remembers short pre-tokens and their ids in a
 * small table of its own; the shared tables stay constant. Refuses nothing but bytes that the
 * vocabulary cannot write. Called by tokenizer.c. Any thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_impl.h"

#define PAIR_FACTOR	0x9e3779b97f4a7c15ull
#define CACHE_SLOTS	8192u
#define CACHE_KEY	15u /* longest pre-token remembered, bytes */
#define CACHE_IDS	4u
#define CACHE_MIN_BYTES 65536u /* of text: below that the table costs more than it saves */

struct bpe_cached {
	uint8_t key[CACHE_KEY];
	uint8_t len : 4, n : 4; /* len 0: empty */
	uint32_t ids[CACHE_IDS];
};

/* ---- the table of merges ---- */

int bpe_init(struct bpe *b, uint32_t n_vocab, uint32_t n_merges, uint64_t seed)
{
	uint32_t slots = 16;

	while (slots < 2 * n_merges) /* n_merges <= TOKENS_MAX */
		slots *= 2;
	b->n_vocab = n_vocab;
	b->seed = seed;
	b->mask = slots - 1;
	b->pairs = malloc(slots * sizeof(*b->pairs));
	b->merged = malloc((n_merges + 1) * sizeof(*b->merged));
	if (!b->pairs || !b->merged)
		return -ENOMEM;
	memset(b->pairs, 0xff, slots * sizeof(*b->pairs));
	return 0;
}

void bpe_fini(struct bpe *b)
{
	free(b->pairs);
	free(b->merged);
	free(b->chars.slots);
}

/* The slot of a pair, or the free one where it would be. */
static struct bpe_pair *find_pair(const struct bpe *b, uint32_t left, uint32_t right)
{
	uint64_t key = (uint64_t)left << 32 | right;
	uint32_t i = (uint32_t)hash_mix(key ^ b->seed, PAIR_FACTOR) & b->mask;

	while (b->pairs[i].left != NO_ID &&
	       (b->pairs[i].left != left || b->pairs[i].right != right))
		i = (i + 1) & b->mask;
	return &b->pairs[i];
}

void bpe_add_pair(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged)
{
	struct bpe_pair *p = find_pair(b, left, right);

	b->merged[rank] = merged;
	if (p->left == NO_ID)
		*p = (struct bpe_pair){ left, right, rank };
}

/* ---- workspace ---- */

void bpe_work_init(struct bpe_work *w, size_t text_bytes)
{
	*w = (struct bpe_work){ 0 };
	if (text_bytes >= CACHE_MIN_BYTES)
		w->cache = calloc(CACHE_SLOTS, sizeof(*w->cache)); /* NULL: slower, not wrong */
}

void bpe_work_fini(struct bpe_work *w)
{
	free(w->nodes);
	free(w->heap);
	free(w->cache);
}

static int reserve_nodes(struct bpe_work *w, size_t n)
{
	struct bpe_node *nodes;

	if (n <= w->cap_nodes)
		return 0;
	n = n < 256 ? 256 : n;
	nodes = malloc(n * sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	free(w->nodes);
	w->nodes = nodes;
	w->cap_nodes = n;
	return 0;
}

static int heap_push(struct bpe_work *w, uint64_t key)
{
	size_t i = w->n_heap++;

	if (i == w->cap_heap) {
		size_t cap = w->cap_heap ? 2 * w->cap_heap : 256;
		uint64_t *heap = realloc(w->heap, cap * sizeof(*heap));

		if (!heap)
			return -ENOMEM;
		w->heap = heap;
		w->cap_heap = cap;
	}
	for (; i && w->heap[(i - 1) / 4] > key; i = (i - 1) / 4)
		w->heap[i] = w->heap[(i - 1) / 4];
	w->heap[i] = key;
	return 0;
}

/* Removes and returns the least key. Four children per node: half the cache misses of two. */
static uint64_t heap_pop(struct bpe_work *w)
{
	uint64_t *heap = w->heap, least = heap[0], key = heap[--w->n_heap];
	size_t n = w->n_heap, i = 0;

	for (size_t child = 1; child < n; child = 4 * i + 1) {
		size_t end = child + 4 < n ? child + 4 : n, best = child;

		for (size_t c = child + 1; c < end; c++)
			if (heap[c] < heap[best])
				best = c;
		if (heap[best] >= key)
			break;
		heap[i] = heap[best];
		i = best;
	}
	heap[i] = key;
	return least;
}

/* ---- merging ---- */

/* Looks up the merge of node @i with its right neighbour and queues it. */
static int queue_pair(const struct bpe *b, struct bpe_work *w, uint32_t i)
{
	struct bpe_node *node = &w->nodes[i];

	node->rank = NO_ID;
	if (node->next == NO_ID)
		return 0;
	node->rank = find_pair(b, node->symbol, w->nodes[node->next].symbol)->rank;
	if (node->rank == NO_ID)
		return 0;
	return heap_push(w, (uint64_t)node->rank << 32 | i);
}

/* Node @i takes in its right neighbour. */
static int merge(const struct bpe *b, struct bpe_work *w, uint32_t i)
{
	struct bpe_node *node = &w->nodes[i];
	uint32_t gone = node->next;
	int rc = 0;

	node->symbol = b->merged[node->rank];
	node->next = w->nodes[gone].next;
	w->nodes[gone].rank = NO_ID; /* its entries in the heap are void */
	if (node->next != NO_ID)
		w->nodes[node->next].prev = i;
	if (node->prev != NO_ID)
		rc = queue_pair(b, w, node->prev);
	return rc ? rc : queue_pair(b, w, i);
}

/* The ids of what remains in the list: a text that is no token is written byte by byte. */
static int emit(const struct bpe *b, const struct bpe_work *w, const uint8_t *text, size_t len,
		struct id_list *ids)
{
	int rc = id_list_reserve(ids, len);

	if (rc)
		return rc;
	for (uint32_t i = 0, next; i != NO_ID; i = next) {
		size_t end;

		next = w->nodes[i].next;
		if (w->nodes[i].symbol < b->n_vocab) {
			ids->data[ids->n++] = w->nodes[i].symbol;
			continue;
		}
		end = next == NO_ID ? len : next;
		for (size_t k = i; k < end; k++) {
			if (b->byte_token[text[k]] == NO_ID)
				return -EILSEQ;
			ids->data[ids->n++] = b->byte_token[text[k]];
		}
	}
	return 0;
}

/* The list to begin with: a node for each byte or character, at the position of its first byte. */
static void make_nodes(const struct bpe *b, struct bpe_work *w, const uint8_t *text, size_t len)
{
	uint32_t prev = NO_ID, symbol;
	unsigned n = 1;

	for (size_t i = 0; i < len; i += n) {
		if (b->chars.slots)
			n = bpe_chars_next(&b->chars, text + i, len - i, &symbol);
		else
			symbol = b->byte_symbol[text[i]];
		w->nodes[i] = (struct bpe_node){
			.prev = prev,
			.next = i + n < len ? (uint32_t)(i + n) : NO_ID,
			.symbol = symbol,
		};
		prev = (uint32_t)i;
	}
}

static int merge_all(const struct bpe *b, struct bpe_work *w, const uint8_t *text, size_t len,
		     struct id_list *ids)
{
	int rc = reserve_nodes(w, len);

	if (rc)
		return rc;
	make_nodes(b, w, text, len);
	w->n_heap = 0;
	for (uint32_t i = 0; i != NO_ID && !rc; i = w->nodes[i].next)
		rc = queue_pair(b, w, i);
	while (!rc && w->n_heap) {
		uint64_t key = heap_pop(w);
		uint32_t i = (uint32_t)key;

		if (w->nodes[i].rank == key >> 32)
			rc = merge(b, w, i);
	}
	return rc ? rc : emit(b, w, text, len, ids);
}

static struct bpe_cached *cache_slot(const struct bpe *b, const struct bpe_work *w,
				     const uint8_t *text, size_t len)
{
	uint64_t half[2] = { 0 };

	memcpy(half, text, len);
	half[0] = hash_mix(half[0] ^ b->seed, PAIR_FACTOR);
	half[0] = hash_mix(half[0] ^ half[1] ^ len, PAIR_FACTOR);
	return &w->cache[half[0] & (CACHE_SLOTS - 1)];
}

int bpe_encode(const struct bpe *b, struct bpe_work *w, const uint8_t *text, size_t len,
	       struct id_list *ids)
{
	struct bpe_cached *slot = NULL;
	size_t before = ids->n;
	int rc;

	if (b->chars.slots && *text == '\n' && len <= NEWLINES_MAX && b->newlines[len] != NO_ID) {
		rc = id_list_reserve(ids, 1);
		if (!rc)
			ids->data[ids->n++] = b->newlines[len];
		return rc;
	}
	if (w->cache && len <= CACHE_KEY) {
		slot = cache_slot(b, w, text, len);
		if (slot->len == len && memcmp(slot->key, text, len) == 0) {
			rc = id_list_reserve(ids, slot->n);
			if (rc)
				return rc;
			for (unsigned i = 0; i < slot->n; i++)
				ids->data[ids->n++] = slot->ids[i];
			return 0;
		}
	}
	rc = merge_all(b, w, text, len, ids);
	if (rc || !slot || ids->n - before > CACHE_IDS)
		return rc;
	slot->len = (uint8_t)len & 15;
	slot->n = (ids->n - before) & 15;
	memcpy(slot->key, text, len);
	memcpy(slot->ids, ids->data + before, (ids->n - before) * sizeof(slot->ids[0]));
	return 0;
}
