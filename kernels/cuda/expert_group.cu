/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/expert_group.cu: the experts of a few tokens, any list of them in one launch, with the layer's
 * shared expert beside them.
 *
 * Decode of a mixture is bound by reading the chosen experts' weights once: 10 experts of 7 MiB a
 * layer. gate_up: a warp takes two hidden rows of one entry, gate and up side by side (their loads
 * are in flight together and share x), and leaves them as floats.
 * down: a block brings its entry's hidden row into the int8 form in shared memory (a super-block of
 * Q8_K is 256 hidden rows, more than a block of gate_up has; every block does it again, a twentieth
 * of its work), then a warp takes four rows at a time. 10 entries of 1024 hidden rows are 640 blocks,
 * of 4096 output rows 640. Where formats differ (of gate and up, or of the shared expert and the others) one
 * kernel for all formats runs instead: the block's entry says which, and a warp takes four hidden rows,
 * gate after up, so that only one format's registers are alive.
 * How many entries there are may be known to the device alone: the grid is for the most, and blocks beyond
 * leave at once; entries of the shared expert stand behind them. Whether rows are 16-aligned is seen on the
 * device, once a block. An entry's bits depend on itself alone and are those of every CPU level
 * (kernels/quant.h).
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/act.cuh"
#include "kernels/cuda/law.cuh"
#include "kernels/cuda/rows.cuh"

#define GROUP_WARPS   8
#define GROUP_THREADS (GROUP_WARPS * WARP_SIZE)
#define GROUP_ROWS    4 /* of a warp at a time: two of gate and two of up, or four of one */
#define DOWN_STEPS    2 /* times GROUP_ROWS: rows of a warp of down */
#define GROUP_ENTRIES 65535
#define GROUP_HIDDEN  32768 /* what shared memory of every target holds in the int8 form */
#define GROUP_MIXED   -1    /* instead of a format: the block's entry says which */

/* One kind of entries: the layer's experts, or its shared expert. */
struct group_kind {
	uint32_t gate_type, up_type, down_type;
	size_t gate_row_bytes, up_row_bytes, down_row_bytes, f;
	size_t x_bytes;	      /* of a row of x */
	enum cuda_input form; /* of hidden, for down */
	const void *x;
	float *hidden;
};

struct group_args {
	struct group_kind experts, shared;
	struct cuda_expert_entry shared_entry; /* its matrices */
	const struct cuda_expert_entry *entries;
	const uint32_t *count; /* NULL: all of @n_entries */
	unsigned n_entries, k;
	size_t d;
	enum cuda_glu glu;
	float *partial;
};

/* What a block works on. */
struct group_work {
	struct group_kind kind;
	struct cuda_expert_entry entry;
	float *hidden;
};

/* false: this block's entry is none */
static __device__ __forceinline__ bool group_begin(const struct group_args &a, struct group_work *w)
{
	const unsigned i = blockIdx.y;

	if (i >= a.n_entries) { /* the same for the whole block, as all here */
		w->kind = a.shared;
		w->entry = a.shared_entry;
		w->entry.token = i - a.n_entries;
		w->hidden = a.shared.hidden + (i - a.n_entries) * a.shared.f;
		return true;
	}
	if (a.count && i >= *a.count)
		return false;
	w->kind = a.experts;
	w->entry = a.entries[i];
	w->hidden = a.experts.hidden + i * a.experts.f;
	return true;
}

/* Rows of a matrix of @TYPE times the row @in: row r's product in lane r. */
template <int TYPE>
static __device__ __forceinline__ float group_dots(const uint8_t *const rows[GROUP_ROWS],
						   bool aligned, size_t n, const void *in,
						   struct row_terms<TYPE, GROUP_ROWS> *t)
{
	constexpr bool gains = gains_wide(TYPE);

	if (gains && aligned) /* the same for the whole block */
		return row_dots < TYPE, gains ? 16 : 2, GROUP_ROWS, 1 > (rows, n, in, 1, t);
	return row_dots<TYPE, 2, GROUP_ROWS, 1>(rows, n, in, 1, t);
}

/* Terms of the format that needs most of them. */
using group_most = row_terms<QUANT_Q5_1, GROUP_ROWS>;

/* The same with the format found at run time. */
static __device__ __forceinline__ float group_dots_of(uint32_t type,
						      const uint8_t *const rows[GROUP_ROWS],
						      bool aligned, size_t n, const void *in,
						      group_most *t)
{
	float v = 0.0f;

#define GROUP_CALL(T, A) \
	v = group_dots<T>(rows, aligned, n, in, (struct row_terms<T, GROUP_ROWS> *)t)
	ROWS_ALL(type, GROUP_CALL)
#undef GROUP_CALL
	return v;
}

/* Rows [first, first + GROUP_ROWS) of a matrix; those beyond its end are @first, computed twice. */
static __device__ __forceinline__ void group_rows(const void *m, size_t row_bytes, size_t first,
						  size_t end, const uint8_t *rows[GROUP_ROWS])
{
#pragma unroll
	for (int i = 0; i < GROUP_ROWS; i++)
		rows[i] = (const uint8_t *)m + (first + i < end ? first + i : first) * row_bytes;
}

template <int TYPE>
static __global__ void __launch_bounds__(GROUP_THREADS)
	gate_up_kernel(const __grid_constant__ struct group_args a)
{
	using terms = row_terms<TYPE, GROUP_ROWS>;
	CUDA_SHARED(terms, t, GROUP_WARPS);
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	const size_t first = (blockIdx.x * (size_t)GROUP_WARPS + warp) * (GROUP_ROWS / 2);
	const uint8_t *rows[GROUP_ROWS];
	struct group_work w;
	float v, up;

	if (!group_begin(a, &w) || first >= w.kind.f)
		return;
	const bool aligned = aligned16(w.entry.gate, w.kind.gate_row_bytes) &&
			     aligned16(w.entry.up, w.kind.up_row_bytes);

#pragma unroll
	for (int i = 0; i < GROUP_ROWS; i++) {
		const size_t row = first + i / 2 < w.kind.f ? first + i / 2 : first;

		rows[i] = i % 2 ? (const uint8_t *)w.entry.up + row * w.kind.up_row_bytes
				: (const uint8_t *)w.entry.gate + row * w.kind.gate_row_bytes;
	}
	v = group_dots<TYPE>(rows, aligned, a.d,
			     (const uint8_t *)w.kind.x + w.entry.token * w.kind.x_bytes, &t[warp]);
	up = __shfl_down_sync(WARP_ALL, v, 1);
	if (lane < GROUP_ROWS && lane % 2 == 0 && first + lane / 2 < w.kind.f)
		w.hidden[first + lane / 2] = law_glu(a.glu, v, up);
}

/* Formats that differ, of gate and up or of the two kinds. */
static __global__ void __launch_bounds__(GROUP_THREADS)
	gate_up_mixed_kernel(const __grid_constant__ struct group_args a)
{
	CUDA_SHARED(group_most, t, GROUP_WARPS);
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	const size_t first = (blockIdx.x * (size_t)GROUP_WARPS + warp) * GROUP_ROWS;
	struct group_work w;
	float gate = 0.0f, up = 0.0f;

	if (!group_begin(a, &w) || first >= w.kind.f)
		return;
#pragma unroll 1
	for (int of_up = 0; of_up < 2; of_up++) {
		const void *m = of_up ? w.entry.up : w.entry.gate;
		const size_t bytes = of_up ? w.kind.up_row_bytes : w.kind.gate_row_bytes;
		const uint8_t *rows[GROUP_ROWS];

		group_rows(m, bytes, first, w.kind.f, rows);
		gate = up;
		up = group_dots_of(
			of_up ? w.kind.up_type : w.kind.gate_type, rows, aligned16(m, bytes), a.d,
			(const uint8_t *)w.kind.x + w.entry.token * w.kind.x_bytes, &t[warp]);
	}
	if (lane < GROUP_ROWS && first + lane < w.kind.f)
		w.hidden[first + lane] = law_glu(a.glu, gate, up);
}

/* Hidden row @h of @f values in form @form, to @act in shared memory. */
static __device__ __forceinline__ void hidden_act(enum cuda_input form, size_t f, const float *h,
						  void *act)
{
	const size_t warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;

	for (size_t first = warp * ACT_WARP; first < f; first += GROUP_WARPS * ACT_WARP) {
		float4 v[2];

#pragma unroll
		for (int k = 0; k < 2; k++) {
			const size_t i = first + 128 * k + 4 * lane;

			v[k] = i < f ? *(const float4 *)(h + i)
				     : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
		}
		act_store(form, act_row_at(act, f, 0), f, first, v, true);
	}
}

template <int TYPE>
static __global__ void __launch_bounds__(GROUP_THREADS)
	down_kernel(const __grid_constant__ struct group_args a)
{
	constexpr bool mixed = TYPE == GROUP_MIXED;
	using terms = row_terms<mixed ? QUANT_Q5_1 : TYPE, GROUP_ROWS>;
	CUDA_SHARED(terms, t, GROUP_WARPS);
	CUDA_SHARED_DYNAMIC(uint8_t, act);
	const int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
	struct group_work w;

	if (!group_begin(a, &w)) /* the same for the whole block */
		return;
	const bool floats = mixed ? w.kind.form == CUDA_IN_F32 : IS_FLOAT(TYPE);
	const bool aligned = aligned16(w.entry.down, w.kind.down_row_bytes);
	const void *in = floats ? (const void *)w.hidden : (const void *)act;
	float *to = a.partial + ((size_t)w.entry.token * a.k + w.entry.rank) * a.d;

	if (!floats) {
		hidden_act(w.kind.form, w.kind.f, w.hidden, act);
		__syncthreads();
	}
	for (int s = 0; s < DOWN_STEPS; s++) {
		const size_t first =
			((blockIdx.x * (size_t)DOWN_STEPS + s) * GROUP_WARPS + warp) * GROUP_ROWS;
		const uint8_t *rows[GROUP_ROWS];
		float v;

		if (first >= a.d)
			return;
		group_rows(w.entry.down, w.kind.down_row_bytes, first, a.d, rows);
		if constexpr (mixed)
			v = group_dots_of(w.kind.down_type, rows, aligned, w.kind.f, in, &t[warp]);
		else
			v = group_dots<TYPE>(rows, aligned, w.kind.f, in, &t[warp]);
		if (lane < GROUP_ROWS && first + lane < a.d)
			to[first + lane] = v;
	}
}

/* The shared expert, where tokens take it. */
static const struct cuda_expert_shared *shared_of(const struct cuda_expert_group *g)
{
	return g->shared && g->shared->tokens ? g->shared : NULL;
}

static size_t x_bytes(uint32_t type, size_t d)
{
	return IS_FLOAT(type) ? d * sizeof(float) : cuda_act_bytes(d);
}

static struct group_args pack(const struct cuda_expert_group *g)
{
	const struct cuda_expert_shared *s = shared_of(g);
	struct group_args a = {};

	a.experts = { g->gate_type,
		      g->up_type,
		      g->down_type,
		      g->gate_row_bytes,
		      g->up_row_bytes,
		      g->down_row_bytes,
		      g->f,
		      x_bytes(g->gate_type, g->d),
		      cuda_matvec_input(g->down_type),
		      g->x,
		      g->hidden };
	if (s) {
		a.shared = { s->gate_type,
			     s->up_type,
			     s->down_type,
			     s->gate_row_bytes,
			     s->up_row_bytes,
			     s->down_row_bytes,
			     s->f,
			     x_bytes(s->gate_type, g->d),
			     cuda_matvec_input(s->down_type),
			     s->x,
			     s->hidden };
		a.shared_entry = { s->gate, s->up, s->down, 0, g->k - 1 };
	}
	a.entries = g->entries;
	a.count = g->count;
	a.n_entries = (unsigned)g->n_entries;
	a.k = g->k;
	a.d = g->d;
	a.glu = g->glu;
	a.partial = g->partial;
	return a;
}

/* 0, or why this kind cannot be computed. */
static int check_kind(const struct group_kind &k, size_t d)
{
	const enum cuda_input gate = cuda_matvec_input(k.gate_type);
	const uint64_t gate_bytes = quant_row_bytes(k.gate_type, d),
		       up_bytes = quant_row_bytes(k.up_type, d),
		       down_bytes = quant_row_bytes(k.down_type, k.f);

	if (gate == CUDA_IN_NONE || cuda_matvec_input(k.up_type) != gate || k.form == CUDA_IN_NONE)
		return -ENOTSUP;
	if (!k.x || !k.hidden || !aligned16(k.hidden) || !gate_bytes || !up_bytes || !down_bytes ||
	    k.gate_row_bytes < gate_bytes || k.up_row_bytes < up_bytes ||
	    k.down_row_bytes < down_bytes || k.f > GROUP_HIDDEN)
		return -EINVAL;
	return 0;
}

/* 0, or why this group cannot be computed. */
static int check_group(const struct cuda_expert_group *g, const struct group_args &a)
{
	const struct cuda_expert_shared *s = shared_of(g);
	int rc = 0;

	if (g->glu > CUDA_GLU_GELU)
		return -ENOTSUP;
	if (!g->k || g->n_entries > GROUP_ENTRIES || g->d > 0x7fffffff ||
	    (g->n_entries && !g->entries) ||
	    (s && (!s->gate || !s->up || !s->down || s->tokens > GROUP_ENTRIES - g->n_entries)))
		return -EINVAL;
	if (g->n_entries)
		rc = check_kind(a.experts, g->d);
	return rc || !s ? rc : check_kind(a.shared, g->d);
}

/* Entries of both kinds. */
static size_t group_entries(const struct cuda_expert_group *g)
{
	const struct cuda_expert_shared *s = shared_of(g);

	return g->n_entries + (s ? s->tokens : 0);
}

/* Blocks of @each rows for the kind that has most of them. */
static dim3 group_grid(const struct cuda_expert_group *g, size_t rows, size_t each)
{
	return dim3((unsigned)((rows + each - 1) / each), (unsigned)group_entries(g));
}

/* The one format of @a and @b and of both kinds that have entries, else GROUP_MIXED. */
static int one_type(const struct cuda_expert_group *g, uint32_t a, uint32_t b, uint32_t shared_a,
		    uint32_t shared_b)
{
	const uint32_t type = g->n_entries ? a : shared_a;

	if ((g->n_entries && b != type) || (shared_of(g) && (shared_a != type || shared_b != type)))
		return GROUP_MIXED;
	return (int)type;
}

extern "C" int cuda_expert_gate_up(cuda_stream stream, const struct cuda_expert_group *g)
{
	const struct cuda_expert_shared *s = shared_of(g);
	const struct group_args a = pack(g);
	const int type =
		one_type(g, g->gate_type, g->up_type, s ? s->gate_type : 0, s ? s->up_type : 0);
	const size_t rows = GROUP_WARPS * (type == GROUP_MIXED ? GROUP_ROWS : GROUP_ROWS / 2);
	const size_t f = !s || (g->n_entries && g->f > s->f) ? g->f : s->f;
	const dim3 grid = group_grid(g, f, rows);
	int rc;

	if (!group_entries(g))
		return 0;
	rc = check_group(g, a);
	if (rc)
		return rc;
#define GATE_UP_CALL(T, A) CUDA_LAUNCH((gate_up_kernel<T>), grid, GROUP_THREADS, 0, stream, a)
	if (type == GROUP_MIXED)
		CUDA_LAUNCH(gate_up_mixed_kernel, grid, GROUP_THREADS, 0, stream, a);
	else
		ROWS_ALL(type, GATE_UP_CALL)
#undef GATE_UP_CALL
	return CUDA_LAUNCHED();
}

extern "C" int cuda_expert_down(cuda_stream stream, const struct cuda_expert_group *g)
{
	const struct cuda_expert_shared *s = shared_of(g);
	const struct group_args a = pack(g);
	const uint32_t of_shared = s ? s->down_type : 0;
	const int type = one_type(g, g->down_type, g->down_type, of_shared, of_shared);
	const dim3 grid = group_grid(g, g->d, (size_t)GROUP_WARPS * GROUP_ROWS * DOWN_STEPS);
	size_t bytes = 0;
	int rc;

	if (!group_entries(g))
		return 0;
	rc = check_group(g, a);
	if (rc || !g->partial)
		return rc ? rc : -EINVAL;
	if (g->n_entries && !IS_FLOAT(g->down_type))
		bytes = cuda_act_bytes(g->f);
	if (s && !IS_FLOAT(s->down_type) && cuda_act_bytes(s->f) > bytes)
		bytes = cuda_act_bytes(s->f);
#define DOWN_CALL(T, A) CUDA_LAUNCH((down_kernel<T>), grid, GROUP_THREADS, bytes, stream, a)
	if (type == GROUP_MIXED)
		DOWN_CALL(GROUP_MIXED, 2);
	else
		ROWS_ALL(type, DOWN_CALL)
#undef DOWN_CALL
	return CUDA_LAUNCHED();
}
