/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/weights.c: see weights.h.
 *
 * One walk over the model's weights serves twice: it adds up the room they need, and, with the
 * memory there, it hands out places and queues the reads. Matrices land in the arena at their
 * file's alignment (no second copy); vectors pass through a small buffer and become float.
 */
#include "engine/weights.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/futex.h"
#include "base/hash.h"
#include "base/num.h"
#include "kernels/quant.h"
#include "model/gguf.h"
#include "store/warm.h"

#define MAX_QUEUED 64 /* reads handed to the reader at once, so that a cancel is seen soon */

/* What a read is for, to be named where it fails. */
struct place {
	const struct weight *weight; /* NULL: nothing failed */
	const struct weight_run *run;
};

/* What a walk does with each weight. */
struct walk {
	struct weights *w;
	uint32_t align;
	uint64_t matrix_bytes; /* room in the arena */
	uint64_t n_floats;     /* room for vectors */
	uint32_t part;	       /* number of the weight that is gone to next */
	uint64_t hash;	       /* of where those before it lie */
	bool place;	       /* second walk: give out addresses */

	/* reading */
	struct reader *reader;
	const struct cpu_ops *ops;
	const _Atomic bool *cancel;
	struct err *err;
	struct place failed; /* of a read that was waited for */
	int rc;
};

struct pending {
	struct reader_request request; /* first: done() gets its address */
	struct weights_load *load;
	struct place place;
	uint64_t bytes;
	uint32_t part;
};

struct weights_load {
	struct weights *w;
	struct pending slots[MAX_QUEUED];
	_Atomic uint32_t busy[MAX_QUEUED];
	_Atomic uint32_t event;
	_Atomic int result;  /* first failure */
	struct place failed; /* its place, once its slot is free */
};

/* All bytes of a weight are where they belong. */
static void set_whole(struct weights *w, uint32_t part)
{
	if (w->warm)
		warm_set_part(w->warm, part, true);
}

static void read_done(struct reader_request *r, int result)
{
	struct pending *p = (struct pending *)r;
	struct weights_load *load = p->load;
	int none = 0;

	if (!result) {
		set_whole(load->w, p->part);
		atomic_fetch_add(&load->w->bytes_loaded, p->bytes);
	} else if (atomic_compare_exchange_strong(&load->result, &none, result))
		load->failed = p->place;
	atomic_store_explicit(&load->busy[p - load->slots], 0, memory_order_release);
	atomic_fetch_add(&load->event, 1);
	futex_wake_all(&load->event);
}

/* A free place in the queue, waiting for one. */
static struct pending *take_slot(struct weights_load *load)
{
	for (;;) {
		uint32_t seen = atomic_load(&load->event);

		for (unsigned i = 0; i < MAX_QUEUED; i++)
			if (!atomic_load_explicit(&load->busy[i], memory_order_acquire)) {
				atomic_store(&load->busy[i], 1);
				return &load->slots[i];
			}
		futex_wait(&load->event, seen, 0);
	}
}

static void wait_all(struct weights_load *load)
{
	for (;;) {
		uint32_t seen = atomic_load(&load->event);
		bool any = false;

		for (unsigned i = 0; i < MAX_QUEUED; i++)
			any |= atomic_load_explicit(&load->busy[i], memory_order_acquire) != 0;
		if (!any)
			return;
		futex_wait(&load->event, seen, 0);
	}
}

/* The room of a matrix: every run with its own lead-in, joined runs only when there is one. */
static uint64_t matrix_room(const struct weight *src, uint32_t align)
{
	if (src->n_runs == 1)
		return reader_room(src->runs[0].offset, weight_bytes(src), align);
	return align_up(weight_bytes(src), align);
}

/* The only run of @src, which is read where it is computed from. */
static void queue_run(struct walk *k, const struct weight *src, uint8_t *dest)
{
	struct weights_load *load = k->w->load;
	struct pending *p;
	struct reader_request *r;

	p = take_slot(load);
	p->load = load;
	p->place = (struct place){ src, &src->runs[0] };
	p->bytes = weight_bytes(src);
	p->part = k->part;
	r = &p->request;
	memset(r, 0, sizeof(*r));
	r->file = src->runs[0].file;
	r->offset = src->runs[0].offset;
	r->bytes = p->bytes;
	r->dest = dest;
	r->done = read_done;
	reader_submit(k->reader, &r, 1);
}

/* Rows that a file interleaves with others: read run by run through a buffer. */
static int read_runs(struct walk *k, const struct weight *src, uint8_t *dest)
{
	uint64_t largest = 0;
	uint8_t *buffer;
	int rc = 0;

	for (uint32_t i = 0; i < src->n_runs; i++)
		largest = u64_max(largest, src->runs[i].rows * src->row_bytes);
	buffer = aligned_alloc(k->align, align_up(largest + 2 * (uint64_t)k->align, k->align));
	if (!buffer)
		return -ENOMEM;
	for (uint32_t i = 0; i < src->n_runs && !rc; i++) {
		const struct weight_run *run = &src->runs[i];
		uint64_t bytes = run->rows * src->row_bytes;
		uint8_t *at = buffer + run->offset % k->align;

		rc = reader_read(k->reader, run->file, run->offset, bytes, at);
		if (rc) {
			k->failed = (struct place){ src, run };
			break;
		}
		memcpy(dest, at, bytes);
		dest += bytes;
		atomic_fetch_add(&k->w->bytes_loaded, bytes);
	}
	free(buffer);
	return rc;
}

static bool stopped(struct walk *k, const struct weight *src)
{
	if (k->rc || src->n_runs == 0)
		return true;
	if (k->place && atomic_load(k->cancel))
		k->rc = -ECANCELED;
	if (k->place && !k->rc)
		k->rc = atomic_load(&k->w->load->result);
	return k->rc != 0;
}

/* Each node's rows to that node, before the first byte lands there; linear() deals them alike. */
static void bind_rows(struct walk *k, const struct wmat *w)
{
	const struct team *team = k->w->team;
	uint64_t at = (uint64_t)(w->data - (const uint8_t *)arena_base(k->w->arena));
	unsigned n = team ? team_size(team) : 0;

	for (unsigned tid = 0, next; tid < n; tid = next) {
		size_t first, end, last;

		team_share(w->n_out, k->ops->row_tile, tid, n, &first, &end);
		for (next = tid + 1; next < n && team_node(team, next) == team_node(team, tid);)
			team_share(w->n_out, k->ops->row_tile, next++, n, &last, &end);
		if (first < end)
			arena_bind(k->w->arena, at + first * w->row_bytes,
				   (end - first) * w->row_bytes, team_node(team, tid));
	}
}

/* Is the weight that is gone to there already? */
static bool is_whole(const struct walk *k, const struct weight *src)
{
	struct weights *w = k->w;

	if (!w->warm || !warm_part(w->warm, k->part))
		return false;
	atomic_fetch_add(&w->bytes_kept, weight_bytes(src));
	atomic_fetch_add(&w->bytes_loaded, weight_bytes(src));
	return true;
}

/* The first walk: room for @room bytes at @at is left, for @src as it lies in its file. */
static void hash_place(struct walk *k, const struct weight *src, uint64_t at, uint64_t room)
{
	const uint64_t of[] = { src->type,	   src->n_in,		src->n_out, src->n_runs,
				src->runs[0].file, src->runs[0].offset, at,	    room };

	k->hash = hash64(of, sizeof(of), k->hash);
	k->w->bytes_total += weight_bytes(src);
}

static void place_matrix(struct walk *k, const struct weight *src, uint8_t *base, struct wmat *dst)
{
	uint64_t lead = src->n_runs == 1 ? src->runs[0].offset % k->align : 0;

	*dst = (struct wmat){
		.type = src->type,
		.n_in = src->n_in,
		.n_out = src->n_out,
		.row_bytes = src->row_bytes,
		.data = base + lead,
		.act = quant_format(src->type)->act,
	};
	bind_rows(k, dst);
	if (is_whole(k, src))
		return;
	if (src->n_runs == 1) {
		queue_run(k, src, base + lead);
		return;
	}
	k->rc = read_runs(k, src, base);
	if (!k->rc)
		set_whole(k->w, k->part);
}

static void walk_matrix(struct walk *k, const struct weight *src, struct wmat *dst)
{
	uint64_t room, at = k->matrix_bytes;

	if (stopped(k, src))
		return;
	room = align_up(matrix_room(src, k->align), k->align);
	k->matrix_bytes += room;
	if (k->place)
		place_matrix(k, src, (uint8_t *)arena_base(k->w->arena) + at, dst);
	else
		hash_place(k, src, at, room);
	k->part++;
}

static void read_floats(struct walk *k, const struct weight *src, float *dest)
{
	uint8_t *raw = malloc(weight_bytes(src) + k->align);

	if (!raw) {
		k->rc = -ENOMEM;
		return;
	}
	k->rc = read_runs(k, src, raw);
	for (uint64_t row = 0; row < src->n_out && !k->rc; row++)
		k->ops->dequantize(src->type, raw + row * src->row_bytes, dest + row * src->n_in,
				   src->n_in);
	if (!k->rc)
		set_whole(k->w, k->part);
	free(raw);
}

static void walk_floats(struct walk *k, const struct weight *src, struct wmat *dst)
{
	uint64_t n = src->n_in * src->n_out, at = k->n_floats;

	if (stopped(k, src))
		return;
	k->n_floats += align_up(n, 16);
	if (k->place) {
		*dst = (struct wmat){
			.type = QUANT_F32,
			.n_in = src->n_in,
			.n_out = src->n_out,
			.row_bytes = src->n_in * sizeof(float),
			.data = (const uint8_t *)(k->w->vectors + at),
			.act = quant_format(QUANT_F32)->act,
		};
		if (!is_whole(k, src))
			read_floats(k, src, k->w->vectors + at);
	} else {
		hash_place(k, src, at, n);
	}
	k->part++;
}

/* Every weight that is there, by role; @skip (ROLE_NR: none) is left out. */
static void walk_roles(struct walk *k, const struct weight *src, struct wmat *dst, enum role skip)
{
	for (unsigned role = 0; role < ROLE_NR; role++) {
		if (role == skip)
			continue;
		if (role_info[role].kind == ROLE_FLOATS)
			walk_floats(k, &src[role], &dst[role]);
		else
			walk_matrix(k, &src[role], &dst[role]);
	}
}

static void walk_model(struct walk *k, const struct model *m)
{
	struct weights *w = k->w;
	bool tied = model_is_tied(m);

	walk_roles(k, m->w, w->model.w, tied ? ROLE_OUTPUT : ROLE_NR);
	if (tied)
		w->model.w[ROLE_OUTPUT] = w->model.w[ROLE_TOKEN_EMBD];
	for (uint32_t i = 0; i < m->n_layers; i++)
		walk_roles(k, m->layers[i].w, w->layers[i].w, ROLE_NR);
}

uint64_t weights_memory_bytes(const struct model *m, uint32_t align)
{
	struct layer_weights *layers = calloc(m->n_layers, sizeof(*layers));
	struct weights w = { .layers = layers };
	struct walk k = { .w = &w, .align = align };

	if (!layers)
		return 0;
	walk_model(&k, m);
	free(layers);
	return k.matrix_bytes + k.n_floats * sizeof(float);
}

/* Vectors lie behind the matrices. */
static uint64_t vectors_at(uint64_t matrix_bytes, uint32_t align)
{
	return align_up(matrix_bytes + align, 64);
}

int weights_get_layout(const struct model *m, uint32_t align, struct weights_layout *ret)
{
	struct layer_weights *layers = calloc(m->n_layers, sizeof(*layers));
	struct weights w = { .layers = layers };
	struct walk k = { .w = &w, .align = align };

	if (!layers)
		return -ENOMEM;
	walk_model(&k, m);
	free(layers);
	ret->bytes = vectors_at(k.matrix_bytes, align) + k.n_floats * sizeof(float);
	ret->hash = k.hash;
	ret->n_parts = k.part;
	return 0;
}

static bool several_nodes(const struct team *team)
{
	/* tids are sorted by node */
	return team_node(team, 0) != team_node(team, team_size(team) - 1);
}

int weights_create(const struct model *m, uint32_t align, const struct team *team, bool local,
		   struct arena *arena, struct weights **ret, struct err *err)
{
	struct weights *w = calloc(1, sizeof(*w));
	struct walk k = { .w = w, .align = align };
	struct arena_config config = { 0 };
	int rc = -ENOMEM;

	if (!w) {
		arena_destroy(arena);
		return err_set(err, -ENOMEM, "no memory");
	}
	w->arena = arena;
	w->layers = calloc(m->n_layers, sizeof(*w->layers));
	w->load = calloc(1, sizeof(*w->load));
	if (!w->layers || !w->load)
		goto out_fail;
	walk_model(&k, m);
	w->n_parts = k.part;
	w->team = local && several_nodes(team) ? team : NULL;
	config.bytes = vectors_at(k.matrix_bytes, align) + k.n_floats * sizeof(float);
	rc = arena ? 0 : arena_create(&config, &w->arena, err);
	if (rc)
		goto out_fail;
	w->vectors = (float *)((uint8_t *)arena_base(w->arena) + vectors_at(k.matrix_bytes, align));
	w->load->w = w;
	*ret = w;
	return 0;
out_fail:
	weights_destroy(w);
	return err_set(err, rc, "no memory for the dense weights");
}

void weights_keep(struct weights *w, struct warm *warm)
{
	w->warm = warm;
}

void weights_destroy(struct weights *w)
{
	if (!w)
		return;
	arena_destroy(w->arena);
	free(w->load);
	free(w->layers);
	free(w);
}

/* A failed load in words: which tensor, and where it lies. */
static int tell_failed(const struct walk *k, const struct model *m, int rc, struct err *err)
{
	struct place p = k->failed.weight ? k->failed : k->w->load->failed;

	if (!p.weight)
		return err_set(err, rc, "reading the dense weights: %s", strerror(-rc));
	return err_set(err, rc, "reading the dense weights: %s: offset %llu: tensor %s: %s",
		       gguf_label(m->gguf, p.run->file), (unsigned long long)p.run->offset,
		       p.weight->name, strerror(-rc));
}

int weights_load(struct weights *w, const struct model *m, struct reader *reader,
		 const struct cpu_ops *ops, const _Atomic bool *cancel, struct err *err)
{
	struct walk k = { .w = w,
			  .align = reader_align(reader),
			  .place = true,
			  .reader = reader,
			  .ops = ops,
			  .cancel = cancel };
	const bool again = atomic_load(&w->bytes_loaded) != 0;
	bool kept = arena_fd(w->arena) >= 0 && !again;
	int rc;

	atomic_store(&w->load->result, 0);
	w->load->failed = (struct place){ 0 };
	atomic_store(&w->bytes_loaded, 0);
	/* kept memory has huge pages where they are made; on several nodes not before rows are bound */
	if (kept && !w->team)
		arena_prefault_start(w->arena);
	walk_model(&k, m);
	if (kept && w->team)
		arena_prefault_start(w->arena);
	wait_all(w->load);
	rc = k.rc ? k.rc : atomic_load(&w->load->result);
	if (rc && rc != -ECANCELED)
		tell_failed(&k, m, rc, err);
	return rc;
}

/* Bytes [from, to) of the arena. */
struct span {
	uint64_t from, to;
};

static uint64_t release(struct weights *w, const struct span *s)
{
	return arena_release(w->arena, s->from, s->to - s->from);
}

#define NEIGHBOUR 8192 /* what a read's alignment leaves between two matrices, at the most */

/*
 * Matrices of @roles go with what waits in @s where that lies right before: what is released is rounded inwards to
 * pages, and of huge ones single matrices have few. Between two that are neighbours lies padding alone: this is the
 * order in which walk_model() placed them, and the one that is kept, however small, is met between its neighbours
 * and ends the run.
 */
static uint64_t drop(struct weights *w, const struct wmat *roles, struct span *s)
{
	const uint8_t *base = arena_base(w->arena), *end = (const uint8_t *)w->vectors;
	const struct wmat *kept = &w->model.w[ROLE_TOKEN_EMBD];
	uint64_t bytes = 0;

	for (unsigned role = 0; role < ROLE_NR; role++) {
		const struct wmat *m = &roles[role];
		uint64_t from, to;

		if (m->data < base || m->data >= end)
			continue;
		from = (uint64_t)(m->data - base);
		to = from + m->row_bytes * m->n_out;
		if (m->data == kept->data || from < s->to || from - s->to > NEIGHBOUR) {
			bytes += release(w, s);
			s->from = m->data == kept->data ? to : from;
		}
		s->to = to;
	}
	return bytes;
}

uint64_t weights_drop(struct weights *w, const struct model *m)
{
	struct span s = { 0 };
	uint64_t bytes;

	for (uint32_t i = 0; w->warm && i < w->n_parts; i++)
		warm_set_part(w->warm, i, false);
	arena_prefault_wait(w->arena);
	bytes = drop(w, w->model.w, &s);
	for (uint32_t i = 0; i < m->n_layers; i++)
		bytes += drop(w, w->layers[i].w, &s);
	return bytes + release(w, &s);
}
