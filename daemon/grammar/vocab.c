/* SPDX-License-Identifier: MIT */
/* daemon/grammar/vocab.c: see vocab.h. */
#include "grammar/vocab.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/stop.h"

struct vocab {
	_Atomic unsigned holders;
	uint32_t n, n_words;
	uint8_t *bytes;
	uint32_t *at; /* n + 1 */
	uint64_t *ends;
	uint32_t *controls; /* n_controls: tokens that begin with VOCAB_CONTROL */
	uint32_t n_controls;
	const struct grammar_stop *stop; /* while it is made */
	uint32_t rounds;
	bool cut;
	struct vocab_trie tries[2];
	uint64_t *slices[VOCAB_SLICES]; /* (VOCAB_SHORT + 1) * n_words */
};

bool vocab_slice_has(unsigned k, unsigned c)
{
	if (c < 0x20 || c >= 0x7f)
		return false;
	if (k == 0) /* what a JSON string holds as it is */
		return c != '"' && c != '\\';
	return c == ' ' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

/* Length of the UTF-8 character at @b, 0 where it is none. */
static unsigned character(const uint8_t *b, size_t n)
{
	uint8_t lo = 0x80, hi = 0xbf;
	unsigned len = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;

	if (!len || b[0] > 0xf4 || len > n)
		return 0;
	lo = b[0] == 0xe0 ? 0xa0 : b[0] == 0xf0 ? 0x90 : lo;
	hi = b[0] == 0xed ? 0x9f : b[0] == 0xf4 ? 0x8f : hi;
	for (unsigned i = 1; i < len; i++, lo = 0x80, hi = 0xbf)
		if (b[i] < lo || b[i] > hi)
			return 0;
	return len;
}

/* Characters of a token of slice @k, VOCAB_MIXED where it is of another kind. */
static unsigned slice_chars(unsigned k, const uint8_t *b, size_t n)
{
	unsigned count = 0;

	for (size_t i = 0; i < n; count++) {
		unsigned len = character(b + i, n - i);

		if (!len || (len == 1 && !vocab_slice_has(k, b[i])))
			return VOCAB_MIXED;
		i += len;
	}
	return count < VOCAB_MIXED ? count : VOCAB_MIXED;
}

/* ---- tokens ---- */

static int copy_tokens(struct vocab *v, void (*get)(void *, uint32_t, struct vocab_token *),
		       void *arg)
{
	size_t room = (size_t)v->n * 8 + 64, used = 0;
	uint8_t *q;

	v->bytes = malloc(room);
	if (!v->bytes)
		return -ENOMEM;
	for (uint32_t id = 0; id < v->n; id++) {
		struct vocab_token t = { 0 };
		int rc = stop_look(v->stop, &v->rounds);

		if (rc)
			return rc;
		get(arg, id, &t);
		v->at[id] = (uint32_t)used;
		if (t.ends)
			v->ends[id / 64] |= 1ull << id % 64;
		if (!t.n || t.n >= VOCAB_MAX_BYTES || memchr(t.bytes, VOCAB_CONTROL, t.n))
			continue;
		if (used + t.n + 1 > room) {
			room = room * 2 + t.n;
			q = realloc(v->bytes, room);
			if (!q)
				return -ENOMEM;
			v->bytes = q;
		}
		if (t.control)
			v->bytes[used++] = VOCAB_CONTROL;
		memcpy(v->bytes + used, t.bytes, t.n);
		used += t.n;
	}
	v->at[v->n] = (uint32_t)used;
	return 0;
}

static bool is_control(const struct vocab *v, uint32_t id)
{
	return v->at[id] < v->at[id + 1] && v->bytes[v->at[id]] == VOCAB_CONTROL;
}

static int list_controls(struct vocab *v)
{
	uint32_t n = 0;

	for (uint32_t id = 0; id < v->n; id++)
		n += is_control(v, id);
	v->controls = calloc(n + 1, sizeof(*v->controls));
	if (!v->controls)
		return -ENOMEM;
	for (uint32_t id = 0; id < v->n; id++)
		if (is_control(v, id))
			v->controls[v->n_controls++] = id;
	return 0;
}

static int by_bytes(const void *a, const void *b, void *arg)
{
	struct vocab *v = arg;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	size_t n = v->at[x + 1] - v->at[x], m = v->at[y + 1] - v->at[y];
	int order;

	/* stopped: any order will do, soon */
	v->cut |= stop_look(v->stop, &v->rounds) != 0;
	if (v->cut)
		return 0;
	order = memcmp(v->bytes + v->at[x], v->bytes + v->at[y], n < m ? n : m);

	if (order)
		return order;
	if (n != m)
		return n < m ? -1 : 1;
	return x < y ? -1 : x > y;
}

static size_t common(const uint8_t *a, size_t n, const uint8_t *b, size_t m)
{
	size_t i = 0;

	while (i < n && i < m && a[i] == b[i])
		i++;
	return i;
}

/* ---- a trie ---- */

/* How many nodes the sorted tokens take. */
static size_t count_nodes(const struct vocab *v, const uint32_t *ids, uint32_t n)
{
	const uint8_t *last = NULL;
	size_t last_n = 0, nodes = 0, len;

	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *b = vocab_bytes(v, ids[i], &len);

		nodes += len - common(last, last_n, b, len);
		last = b;
		last_n = len;
	}
	return nodes;
}

static int trie_alloc(struct vocab_trie *t, size_t n)
{
	t->byte = calloc(n + 1, sizeof(*t->byte));
	t->depth = calloc(n + 1, sizeof(*t->depth));
	t->skip = calloc(n + 1, sizeof(*t->skip));
	t->token = calloc(n + 1, sizeof(*t->token));
	return t->byte && t->depth && t->skip && t->token ? 0 : -ENOMEM;
}

/* t->ids are sorted: nodes come in the order of a walk. */
static int trie_build(struct vocab *v, struct vocab_trie *t, uint32_t n_ids)
{
	uint32_t open[VOCAB_MAX_BYTES + 1]; /* nodes on the path, by depth */
	const uint8_t *last = NULL;
	size_t last_n = 0, len;
	uint32_t n = 0;

	if (trie_alloc(t, count_nodes(v, t->ids, n_ids)))
		return -ENOMEM;
	for (uint32_t i = 0; i < n_ids; i++) {
		const uint8_t *b = vocab_bytes(v, t->ids[i], &len);
		size_t same = common(last, last_n, b, len);
		int rc = stop_look(v->stop, &v->rounds);

		if (rc)
			return rc;
		for (size_t d = same; d < last_n && same < len; d++)
			t->skip[open[d]] = n;
		for (size_t d = same; d < len; d++) {
			open[d] = n;
			t->byte[n] = b[d];
			t->depth[n] = (uint16_t)(d + 1);
			/* a token's node is the last of its path: what is above it has none here */
			t->token[n++] = i;
		}
		last = b;
		last_n = len;
	}
	for (size_t d = 0; d < last_n; d++)
		t->skip[open[d]] = n;
	t->n = n;
	t->token[n] = n_ids;
	return 0;
}

/* Most characters below each node, from the leaves up: parents come before their children. */
static int trie_slice(struct vocab *v, struct vocab_trie *t, unsigned k)
{
	uint32_t open[VOCAB_SHORT + 1] = { 0 };
	uint32_t *parent = calloc(t->n + 1, sizeof(*parent));
	uint8_t *most = calloc(t->n + 1, 1);

	t->most[k] = most;
	if (!parent || !most) {
		free(parent);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < t->n; i++) {
		open[t->depth[i]] = i;
		parent[i] = t->depth[i] > 1 ? open[t->depth[i] - 1] : t->n;
	}
	for (uint32_t i = t->n; i-- > 0 && !v->cut;) {
		v->cut |= stop_look(v->stop, &v->rounds) != 0;
		if (t->token[i] < t->token[i + 1]) {
			size_t n;
			const uint8_t *b = vocab_bytes(v, t->ids[t->token[i]], &n);
			unsigned chars = slice_chars(k, b, n);

			most[i] = (uint8_t)(chars > most[i] ? chars : most[i]);
		}
		if (most[i] > most[parent[i]])
			most[parent[i]] = most[i];
	}
	free(parent);
	return 0;
}

/* slices[k][r]: tokens of at most r characters. */
static int list_slice(struct vocab *v, unsigned k)
{
	const struct vocab_trie *t = &v->tries[0];
	uint64_t *bits = calloc((size_t)(VOCAB_SHORT + 1) * v->n_words, sizeof(*bits));

	v->slices[k] = bits;
	if (!bits)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->token[t->n] && !v->cut; i++) {
		size_t n;
		const uint8_t *b = vocab_bytes(v, t->ids[i], &n);
		unsigned chars = slice_chars(k, b, n);

		v->cut |= stop_look(v->stop, &v->rounds) != 0;
		if (chars <= VOCAB_SHORT)
			bits[(size_t)chars * v->n_words + t->ids[i] / 64] |= 1ull << t->ids[i] % 64;
	}
	for (size_t i = v->n_words; i < (size_t)(VOCAB_SHORT + 1) * v->n_words; i++)
		bits[i] |= bits[i - v->n_words];
	return 0;
}

/* The first two bytes: a bucket is small, and between two of them there is time to stop. */
static unsigned bucket_of(const struct vocab *v, uint32_t id)
{
	uint32_t n = v->at[id + 1] - v->at[id];
	const uint8_t *b = v->bytes + v->at[id];

	return (unsigned)b[0] << 8 | (n > 1 ? b[1] : 0);
}

/* Sorts @n tokens by their bytes. */
static int sort_tokens(struct vocab *v, uint32_t *ids, uint32_t n)
{
	uint32_t *at = calloc(65536 + 1, sizeof(*at)), *copy = calloc(n + 1, sizeof(*copy));
	int rc = at && copy ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < n && !rc; i++)
		at[bucket_of(v, ids[i]) + 1]++;
	for (unsigned b = 0; b < 65536 && !rc; b++)
		at[b + 1] += at[b];
	for (uint32_t i = 0; i < n && !rc; i++) {
		copy[at[bucket_of(v, ids[i])]++] = ids[i];
		rc = stop_look(v->stop, &v->rounds);
	}
	/* at[b] is the bucket's end by now */
	for (unsigned b = 0, from = 0; b < 65536 && !rc; from = at[b++])
		if (at[b] > from + 1) {
			qsort_r(copy + from, at[b] - from, sizeof(*copy), by_bytes, v);
			rc = stop_now(v->stop);
		}
	if (!rc)
		memcpy(ids, copy, n * sizeof(*ids));
	free(at);
	free(copy);
	return rc;
}

static int build(struct vocab *v)
{
	int rc = 0;

	for (unsigned k = 0; k < 2 && !rc; k++) {
		struct vocab_trie *t = &v->tries[k];
		uint32_t n = 0;

		t->ids = calloc(v->n + 1, sizeof(*t->ids));
		if (!t->ids)
			return -ENOMEM;
		for (uint32_t id = 0; id < v->n; id++) {
			uint32_t len = v->at[id + 1] - v->at[id];

			if (len && (len > VOCAB_SHORT) == (k == 1))
				t->ids[n++] = id;
		}
		rc = sort_tokens(v, t->ids, n);
		rc = rc ? rc : trie_build(v, t, n);
	}
	for (unsigned k = 0; k < VOCAB_SLICES && !rc; k++) {
		rc = trie_slice(v, &v->tries[0], k);
		rc = rc ? rc : list_slice(v, k);
		rc = rc ? rc : stop_now(v->stop);
	}
	return rc;
}

int vocab_create(uint32_t n, void (*get)(void *arg, uint32_t id, struct vocab_token *ret),
		 void *arg, const struct grammar_stop *stop, struct vocab **ret)
{
	struct vocab *v = calloc(1, sizeof(*v));
	int rc = -ENOMEM;

	if (!v)
		return -ENOMEM;
	v->n = n;
	v->stop = stop;
	v->holders = 1;
	v->n_words = vocab_words_of(n);
	v->at = calloc((size_t)n + 1, sizeof(*v->at));
	v->ends = calloc(v->n_words + 1, sizeof(*v->ends));
	if (v->at && v->ends)
		rc = copy_tokens(v, get, arg);
	rc = rc ? rc : list_controls(v);
	rc = rc ? rc : build(v);
	if (rc) {
		vocab_destroy(v);
		return rc;
	}
	v->stop = NULL;
	*ret = v;
	return 0;
}

struct vocab *vocab_hold(struct vocab *v)
{
	atomic_fetch_add_explicit(&v->holders, 1, memory_order_relaxed);
	return v;
}

void vocab_destroy(struct vocab *v)
{
	/* the last one sees what the others did before they let go */
	if (!v || atomic_fetch_sub_explicit(&v->holders, 1, memory_order_acq_rel) != 1)
		return;
	for (unsigned k = 0; k < 2; k++) {
		struct vocab_trie *t = &v->tries[k];

		free(t->byte);
		free(t->depth);
		free(t->skip);
		free(t->token);
		free(t->ids);
		for (unsigned s = 0; s < VOCAB_SLICES; s++)
			free(t->most[s]);
	}
	for (unsigned k = 0; k < VOCAB_SLICES; k++)
		free(v->slices[k]);
	free(v->controls);
	free(v->bytes);
	free(v->at);
	free(v->ends);
	free(v);
}

uint32_t vocab_n(const struct vocab *v)
{
	return v->n;
}

uint32_t vocab_words(const struct vocab *v)
{
	return v->n_words;
}

const uint8_t *vocab_bytes(const struct vocab *v, uint32_t id, size_t *ret_n)
{
	if (id >= v->n) {
		*ret_n = 0;
		return NULL;
	}
	*ret_n = v->at[id + 1] - v->at[id];
	return v->bytes + v->at[id];
}

bool vocab_has_control(const struct vocab *v, const char *text)
{
	size_t n = strlen(text), len;

	for (uint32_t i = 0; i < v->n_controls; i++) {
		const uint8_t *b = vocab_bytes(v, v->controls[i], &len);

		if (len == n + 1 && !memcmp(b + 1, text, n))
			return true;
	}
	return false;
}

bool vocab_ends(const struct vocab *v, uint32_t id)
{
	return id < v->n && (v->ends[id / 64] >> id % 64 & 1);
}

const uint64_t *vocab_end_bits(const struct vocab *v)
{
	return v->ends;
}

const struct vocab_trie *vocab_short(const struct vocab *v)
{
	return &v->tries[0];
}

const struct vocab_trie *vocab_long(const struct vocab *v)
{
	return &v->tries[1];
}

const uint64_t *vocab_slice(const struct vocab *v, unsigned k, unsigned chars)
{
	return v->slices[k] + (size_t)chars * v->n_words;
}
