/* SPDX-License-Identifier: MIT */
/*
 * kernels/cuda/ops.h: the operations of a token on an NVIDIA GPU, as C launchers.
 *
 * Each launcher puts its kernels on @stream and returns: 0, or -EINVAL (a shape, format or pointer
 * outside what its comment allows: nothing was launched), -ENOTSUP (the format has no product
 * here), -EIO (the runtime refused the launch). None allocates, synchronises or keeps state, so
 * all are callable from any thread that has the device current, and can be captured in a graph.
 * Pointers are device pointers unless said; float arrays are 4-aligned, activation rows and weight
 * rows 16-aligned (weights: see WEIGHTS). A count of 0 tokens, entries or rows launches nothing and
 * returns 0. Formulas: docs/models.md 2.4; block formats: 1.4.
 *
 * SAME BITS: an output value depends on its own row and its own token only, never on how many
 * rows, tokens, sequences or entries a launch has. Products of block formats, of experts in any format
 * and what stands between them follow the law of kernels/quant.h: the bits of every level of kernels/cpu.
 * Dense products of F16, BF16 and F32 by cuda_gemm do not.
 * WEIGHTS: rows of @n weights, row r at w + r * row_bytes; base and row_bytes need the alignment of
 * the format's fields only (2 bytes; MXFP4 1; F32 4); 16 or more let loads go wide.
 * SCRATCH: bytes are asked with the function beside the launcher; 256-aligned, not kept.
 */
#ifndef SLUICE_KERNELS_CUDA_OPS_H
#define SLUICE_KERNELS_CUDA_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* small functions of this header that kernels call too */
#ifdef __CUDACC__
#define CUDA_BOTH __host__ __device__
#else
#define CUDA_BOTH
#endif

struct CUstream_st;
typedef struct CUstream_st *cuda_stream; /* is cudaStream_t */

/* Kernels that the operations below launched so far, on whatever thread. */
uint64_t cuda_launches(void);

/* ---- activations ---------------------------------------------------------------------------- */

/* What rows of activations look like: one of the int8 forms, or floats of one kind. */
enum cuda_input {
	CUDA_IN_NONE,
	CUDA_IN_Q8_0, /* weights in blocks of 32 */
	CUDA_IN_Q8_K, /* weights in blocks of 256 */
	CUDA_IN_F32,
	CUDA_IN_F16,
	CUDA_IN_BF16
};

/*
 * The int8 forms of a vector of n floats (a multiple of 32; Q8_K: of 256):
 *   int8 q[n] | float d[n / 32] | int16 s[n / 16] | padding to cuda_act_bytes(n)
 * s = the sum of 16 q. Scales and quants by the rules of kernels/cpu/scalar.h, bit for bit:
 *   Q8_0: d = max|x| / 127 of 32 values, q = x * (1 / d) rounded, halves away from zero;
 *   Q8_K: m = the first x of largest |x| of 256 values, q = x * (-127 / m) rounded to the nearest even,
 *         d = 1 / (-127 / m), written for each 32 of them.
 * A block of zeros has d = 0. With an infinity or a NaN in the block d is NaN and every q 0: all
 * products of the block are NaN. n = 4096 gives 5120 bytes.
 */
static inline CUDA_BOTH size_t cuda_act_bytes(size_t n)
{
	return (n + n / 32 * 4 + n / 16 * 2 + 15) / 16 * 16;
}

/* Whether rows of @n values have the int8 form @form. */
static inline bool cuda_act_fits(enum cuda_input form, size_t n)
{
	return n &&
	       ((form == CUDA_IN_Q8_0 && n % 32 == 0) || (form == CUDA_IN_Q8_K && n % 256 == 0));
}

/* x [rows][n] (row r at x + r * ldx floats) -> int8 rows of @form, one after the other */
int cuda_act_quantize(cuda_stream stream, enum cuda_input form, const float *x, size_t ldx,
		      size_t n, size_t rows, void *act);

/*
 * Where an operation leaves the int8 form of its result too, for the product after it: @form is
 * CUDA_IN_Q8_0 or CUDA_IN_Q8_K, @rows as cuda_act_quantize writes them. rows NULL: not wanted.
 */
struct cuda_act {
	enum cuda_input form;
	void *rows;
};

/* What stands between gate and up: enum glu of kernels/cpu/fops.h, with its bits. */
enum cuda_glu { CUDA_GLU_SILU, CUDA_GLU_CLAMPED, CUDA_GLU_GELU };

enum cuda_float { CUDA_F32, CUDA_F16, CUDA_BF16 };

/*
 * out[i] = x[i] from one kind to another, F32 on one side or both (other pairs: -EINVAL). Rounded to
 * nearest even, denormals kept; F16 saturates at 65504, but infinities become NaN; BF16 keeps
 * infinities and what rounds to them. NaN stays NaN, of which bits is not said. Each array aligned;
 * 16 or more lets loads go wide. x and out do not overlap.
 */
int cuda_convert(cuda_stream stream, enum cuda_float from, const void *x, enum cuda_float to,
		 void *out, size_t count);

/* ---- products ------------------------------------------------------------------------------- */

/* enum quant_id -> the int8 form for block formats, CUDA_IN_F32 for F32, F16 and BF16 weights */
enum cuda_input cuda_matvec_input(uint32_t type);
/* ... -> the int8 form, or CUDA_IN_F16 / CUDA_IN_BF16 for F16 / BF16 weights; F32: CUDA_IN_F32 */
enum cuda_input cuda_gemm_input(uint32_t type);

/* Y = X W^T: y[c * ldy + r] for r < rows, c < cols. */
struct cuda_product {
	uint32_t type; /* enum quant_id */
	const void *w;
	size_t row_bytes, n, rows;
	const void *x; /* cols rows in the input form of the launcher, one after the other:
			* int8 rows cuda_act_bytes(n) apart, float rows n values apart */
	size_t cols;
	float *y;
	size_t ldy;
	bool add; /* y += instead of y = */
};

/*
 * 1 to 8 columns; dp4a, or fused multiply-adds for float weights. Reads each weight once. Float weights take more
 * columns, 524280 at the most, and are read once for every eight of them: each has the bits that it has alone.
 */
int cuda_matvec(cuda_stream stream, const struct cuda_product *p);

/*
 * Up to CUDA_MANY products in one launch, each with the bits of cuda_matvec: the same number of columns
 * in all, 1 to 8, none with @add or without rows. Formats, sizes and inputs may differ.
 */
#define CUDA_MANY 4
int cuda_matvec_many(cuda_stream stream, const struct cuda_product *p, unsigned count);

/*
 * Any number of columns; mma.sync of int8 (block formats, the bits of cuda_matvec), f16 or bf16, f32
 * accumulation.
 */
int cuda_gemm(cuda_stream stream, const struct cuda_product *p);

/*
 * Products of many experts in one launch: sorted entry i of [offsets[e], offsets[e + 1]) belongs to
 * expert e and is column i of the result: y[i * ldy + r] = w[e] row r . x[gather[i]].
 * w[e] NULL: its columns are not written. gather NULL: x row i.
 */
struct cuda_grouped {
	uint32_t type;
	const void *const *w; /* [experts], device */
	size_t row_bytes, n, rows, experts;
	const uint32_t *offsets; /* [experts + 1], device, from cuda_expert_sort */
	const uint32_t *gather;	 /* [entries], device */
	size_t entries;		 /* offsets[experts], known to the host */
	const void *x;		 /* in the form of cuda_matvec_input: the law of experts */
	float *y;
	size_t ldy;
};
int cuda_gemm_grouped(cuda_stream stream, const struct cuda_grouped *g);

/* ---- mixture of experts --------------------------------------------------------------------- */

enum cuda_gating { CUDA_GATE_SOFTMAX, CUDA_GATE_SIGMOID, CUDA_GATE_SOFTMAX_TOPK };

/*
 * Router, f32 throughout: logits = w x (+ bias), probabilities by @gating over all experts
 * (SOFTMAX_TOPK: over the k chosen), the k largest of probability + select_bias chosen, largest
 * first, equal values by the lower index; weights are the probabilities of the chosen (without
 * select_bias), divided by max(their sum, 6.103515625e-5) where @norm, times @scale.
 * groups > 1: only experts of the groups_used groups with the largest sum of their two best
 * (probability + select_bias) can be chosen. Where a logit of a token is not finite all of the token's
 * weights are NaN; its ids are distinct and < experts even so.
 */
struct cuda_router {
	enum cuda_gating gating;
	const float *x;			 /* [tokens][d] */
	const float *w;			 /* [experts][d] */
	const float *bias, *select_bias; /* [experts] or NULL */
	size_t d, experts, tokens;
	unsigned k;		      /* <= 32, <= experts <= 1024 */
	unsigned groups, groups_used; /* 0 or 1: no groups; else divides experts */
	bool norm;
	float scale;
	/*
	 * A rank more, the last: the shared expert's, of weight sigmoid(shared_gate . x), or 1 where that is
	 * NULL. @norm and @scale leave it alone; with a gate that is not finite it is NaN.
	 */
	bool shared;
	const float *shared_gate; /* [d] */
	uint32_t *ids;		  /* [tokens][k] */
	float *weights;		  /* [tokens][k], with @shared [tokens][k + 1] */
	/* [tokens][experts], with a gate [tokens][experts + 1], which is the last; written too */
	float *logits;
};
int cuda_router(cuda_stream stream, const struct cuda_router *r);

/*
 * Sorts token-expert pairs by expert, stable: ids [entries] (entry = token * k + rank) ->
 * offsets [experts + 1], order [entries] (sorted position -> entry), place (entry -> position),
 * gather [entries] (position -> entry / k). Ids >= experts are left out (place = UINT32_MAX).
 * experts <= 1024.
 */
int cuda_expert_sort(cuda_stream stream, const uint32_t *ids, size_t entries, unsigned k,
		     size_t experts, uint32_t *offsets, uint32_t *order, uint32_t *place,
		     uint32_t *gather);

/* One use of one expert of the layer. */
struct cuda_expert_entry {
	const void *gate, *up, *down; /* [f][d], [f][d], [d][f] */
	uint32_t token, rank;
};

/* The layer's shared expert as the last rank of each of @tokens tokens: an expert of its own sizes and formats. */
struct cuda_expert_shared {
	uint32_t gate_type, up_type, down_type;
	size_t gate_row_bytes, up_row_bytes, down_row_bytes, f;
	const void *gate, *up, *down; /* device */
	size_t tokens;		      /* 0: as without it */
	const void *x;		      /* rows of d in the form of cuda_matvec_input(gate_type) */
	float *hidden;		      /* [tokens][f], 16-aligned */
};

/*
 * Expert group, for decode: few tokens, any list of entries (device array). Two launches:
 *   cuda_expert_gate_up: hidden row i = glu(gate x[token], up x[token]), floats
 *   cuda_expert_down:    partial[(token * k + rank) * d + r] = down hidden row i
 * and the reduction over ranks below. Formats are those of the layer, any for down; gate and up may
 * differ if both take the same input form, else -ENOTSUP; f at most 32768, at most 65535 entries, those of
 * the shared expert among them.
 * Every value has the bits that the levels of kernels/cpu give it.
 */
struct cuda_expert_group {
	uint32_t gate_type, up_type, down_type;
	size_t gate_row_bytes, up_row_bytes, down_row_bytes;
	size_t d, f;
	enum cuda_glu glu;
	const struct cuda_expert_entry *entries; /* device */
	size_t n_entries;			 /* with @count: the most */
	const uint32_t *count;			 /* device: how many there are; NULL: n_entries */
	unsigned k;    /* ranks of a token, that of the shared expert included */
	const void *x; /* rows of d in the form of cuda_matvec_input(gate_type) */
	float *hidden; /* [n_entries][f], 16-aligned */
	float *partial;
	const struct cuda_expert_shared
		*shared; /* the host's, read before the launch returns; NULL: none */
};
int cuda_expert_gate_up(cuda_stream stream, const struct cuda_expert_group *g);
int cuda_expert_down(cuda_stream stream, const struct cuda_expert_group *g);

/*
 * y[t][i] = (add ? y[t][i] : 0) + sum over rank of weights[t][rank] * row(t, rank)[i], ranks in
 * order, one fused multiply-add each; row is partial + (t * k + rank) * d, or with @place
 * partial + place[t * k + rank] * d. Ranks with place UINT32_MAX are left out.
 */
int cuda_expert_reduce(cuda_stream stream, const float *partial, const uint32_t *place,
		       const float *weights, size_t tokens, unsigned k, size_t d, bool add,
		       float *y);

/*
 * The same over two sources: @place [tokens][k] says of each (token, rank) a row of @partial, or with
 * CUDA_MAPPED added one of @mapped (the host's memory, where it puts what it computed), or UINT32_MAX: left
 * out. Order and bits are those of cuda_expert_reduce.
 */
#define CUDA_MAPPED 0x80000000u
int cuda_expert_reduce_two(cuda_stream stream, const float *partial, const float *mapped,
			   const uint32_t *place, const float *weights, size_t tokens, unsigned k,
			   size_t d, bool add, float *y);

/*
 * Both of them as the input of the next norm, in one launch: res[t] += sum over ranks as above (from 0), then
 * cuda_rmsnorm of res: bits, sizes and alignments of the two operations in turn. @mapped and @place may be
 * NULL: rows of @partial in order. n values a row, as in cuda_rmsnorm.
 */
struct cuda_expert_sum {
	const float *partial, *mapped;
	const uint32_t *place;
	const float *weights;
	unsigned k;
};
int cuda_expert_reduce_norm(cuda_stream stream, const struct cuda_expert_sum *s, float *res,
			    const float *w, size_t n, size_t rows, float eps, float *out,
			    struct cuda_act act);

/*
 * Which of the chosen experts lie in slots of the device: @slots [experts] holds the slot of each, UINT32_MAX
 * where it has none. Entry (token, rank) of a resident expert joins @list, in order, with its matrices at
 * base + slot * slot_bytes + gate_at (up_at, down_at), and its place is token * ranks + rank; others get
 * CUDA_MAPPED added. Ranks from k on (the shared expert's) have their place and no entry. *count: entries of
 * the list. At most 65535 entries, experts' ids are checked.
 */
struct cuda_resolve {
	const uint32_t *ids; /* [tokens][k] */
	size_t tokens, experts;
	unsigned k, ranks;     /* ranks of a token: k (or 0, the same) or more */
	const uint32_t *slots; /* NULL: nothing is resident */
	const uint8_t *base;
	size_t slot_bytes, gate_at, up_at, down_at;
	struct cuda_expert_entry *list; /* [tokens * k] */
	uint32_t *count, *place;	/* place [tokens][ranks] */
};
int cuda_expert_resolve(cuda_stream stream, const struct cuda_resolve *r);

/*
 * What the host needs of a layer, into its mapped memory: ids [tokens][k], weights [tokens][ranks] and
 * x [tokens][d]; then @value, plus *tick where that is given (device memory: a graph's launches differ), to
 * @word, seen by the host after all of it (release at system scope).
 */
struct cuda_publish {
	const uint32_t *ids;
	const float *weights, *x;
	size_t tokens, d;
	unsigned k, ranks; /* as in struct cuda_resolve */
	uint32_t *to_ids;
	float *to_weights, *to_x;
	uint32_t *word, value;
	const uint32_t *tick;
};
int cuda_publish(cuda_stream stream, const struct cuda_publish *p);

/* Both in one launch. */
int cuda_handoff(cuda_stream stream, const struct cuda_publish *p, const struct cuda_resolve *r);

/* out = glu(gate, up), [rows][n], gate and up rows ld apart; out or act.rows may be NULL */
int cuda_glu_mul(cuda_stream stream, enum cuda_glu kind, const float *gate, const float *up,
		 size_t ld, size_t n, size_t rows, float *out, struct cuda_act act);

/* y[t] += sigmoid(w . x[t]) * s[t]; w [d], the rest [tokens][d]; w NULL: y += s */
int cuda_shared_gate(cuda_stream stream, const float *x, const float *w, const float *s,
		     size_t tokens, size_t d, float *y);

/* ---- norms, rope, embedding ----------------------------------------------------------------- */

/*
 * Residual and norm in one pass: res[t] += x[t] where both are given; out[t] = v rsqrt(mean(v^2) +
 * eps) * w with v = res[t] (or x[t] where res is NULL). act: an int8 form of out too; out or act.rows
 * may be NULL. n a multiple of 32, at most 16384. Rows are n apart.
 */
int cuda_rmsnorm(cuda_stream stream, float *res, const float *x, const float *w, size_t n,
		 size_t rows, float eps, float *out, struct cuda_act act);

/* Where the KV cache of one layer lies: see "KV pages". */
enum cuda_kv { CUDA_KV_F16, CUDA_KV_Q8_0 };
#define CUDA_KV_PAGE 64 /* positions of a page */

/*
 * KV pages. A page holds CUDA_KV_PAGE positions of all KV heads of one layer:
 *   f16:  for each head: half K[64][dim], half V[64][dim]
 *   q8_0: for each head: int8 K[64][dim], int8 V[64][dim], half dK[64][dim / 32], half dV[...]
 * d = max|x| / 127 of 32 dimensions kept as half, q = x / d (the half's value) rounded to the
 * nearest even and held to [-127, 127]. Halves saturate at 65504. dim is 64, 128 or 256. Position p
 * of sequence s is slot p % 64 of page table[s * table_stride + p / 64] of the pool.
 */
struct cuda_kv_cache {
	enum cuda_kv type;
	void *pool;	       /* page i at pool + i * cuda_kv_page_bytes */
	const uint32_t *table; /* [sequences][table_stride], device */
	size_t table_stride, heads, dim;
};
static inline CUDA_BOTH size_t cuda_kv_page_bytes(enum cuda_kv type, size_t heads, size_t dim)
{
	return heads * CUDA_KV_PAGE * 2 * (type == CUDA_KV_F16 ? 2 * dim : dim + dim / 16);
}

/*
 * What lies between the projections and attention, for every token t of a batch: per-head RMSNorm
 * of q and k with weights wq, wk [dim] (NULL: none), rope over the first @rot dimensions (NeoX
 * pairs (j, j + rot / 2), angle pos * base^(-2j / rot)) times @mscale, k and v stored in the cache at
 * position pos[t] of sequence seq[t]. q [tokens][ldq]: head h at h * q_step (2 * dim where the gate
 * lies beside the query, else dim). q_out [tokens][heads][dim], scaled by @scale.
 */
struct cuda_qkv {
	const float *q, *k, *v; /* k, v [tokens][ldkv]: kv head h at h * dim */
	size_t ldq, q_step, ldkv;
	const float *wq, *wk;
	float eps;
	const uint32_t *pos, *seq; /* [tokens], device */
	size_t tokens, heads;	   /* query heads */
	unsigned rot;
	const float *inv_freq; /* [rot / 2], device: base^(-2j / rot), YaRN included */
	float mscale, scale;
	float *q_out;
	struct cuda_kv_cache kv;
};
int cuda_qkv_rope_store(cuda_stream stream, const struct cuda_qkv *a);

/*
 * Attention of one new token per sequence (decode): out[s][h] = softmax(q K^T) V over positions
 * [0, len[s]), query head h reads KV head h / (heads / kv.heads); gate (NULL: none): out *=
 * sigmoid(gate), head h of sequence s at gate[s * ldg + h * g_step + i]. Online softmax in f32, the
 * context in parts of @part positions (a multiple of 64; the bits depend on it, not on the batch).
 */
struct cuda_attend {
	const float *q; /* [tokens][heads][dim], scaled */
	const float *gate;
	size_t ldg, g_step;
	struct cuda_kv_cache kv;
	size_t heads;
	size_t sequences; /* decode: rows of q */
	/*
	 * decode: the rows are tokens of one sequence, each a position after the one before (seq the same for
	 * all): blocks take several of them, and a row has the bits that it has without this.
	 */
	bool one_run;
	const uint32_t *seq; /* [sequences] row of the page table, device; NULL: 0, 1, ... */
	const uint32_t *len; /* [sequences] device */
	size_t max_len;	     /* the largest len, known to the host */
	size_t part;
	void *scratch;
	float *out; /* [tokens][heads * dim] */
	/* decode: an int8 form of out too, where heads * dim is a multiple of 256 (else -EINVAL) */
	struct cuda_act act;
};
size_t cuda_attend_decode_scratch(size_t sequences, size_t heads, size_t dim, size_t max_len,
				  size_t part);
int cuda_attend_decode(cuda_stream stream, const struct cuda_attend *a);

/*
 * Prefill: @tokens rows of q are positions [first, first + tokens) of ONE sequence (a.seq[0] on the
 * device or row 0; a.len and a.sequences are not read); row i sees positions [0, first + i]. K and V
 * of these tokens are in the cache already. Tensor cores with f16 inputs, f32 accumulation; the
 * bits of a row do not depend on where its chunk began.
 */
int cuda_attend_prefill(cuda_stream stream, const struct cuda_attend *a, size_t first,
			size_t tokens);

/* x[i] *= sigmoid(gate[i]) per head as in struct cuda_attend; x [tokens][heads][dim] */
int cuda_gate_mul(cuda_stream stream, float *x, const float *gate, size_t ldg, size_t g_step,
		  size_t tokens, size_t heads, size_t dim);

/* out[t] = row ids[t] of the table, dequantised exactly; ids >= vocab give zeros. Any format. */
int cuda_embed(cuda_stream stream, uint32_t type, const void *table, size_t row_bytes, size_t n,
	       size_t vocab, const uint32_t *ids, size_t tokens, float *out);

/* ---- gated DeltaNet ------------------------------------------------------------------------- */

/*
 * Shapes of one layer: channels = 2 * k_heads * dim + v_heads * dim (q, k, v rows). Value head v
 * reads key head v % k_heads, or v / (v_heads / k_heads) where @grouped (qwen3next).
 * Per sequence: conv state float [3][channels] (oldest first, inputs before the convolution) and
 * S float [v_heads][dim key][dim value]. Sequence s of a launch is row slot[s] of the state arrays, which lie
 * side by side, or @stride floats (a multiple of 4) apart where the batch has one: both kinds of state then alike.
 */
struct cuda_delta_shape {
	size_t k_heads, v_heads, dim; /* dim is 64 or 128 */
	bool grouped;
};

/*
 * A batch of runs: tokens of sequence s are rows [start[s], start[s + 1]) (device, sequences + 1).
 * Decode is the case of one token each.
 */
struct cuda_delta_batch {
	size_t sequences, tokens, max_run; /* max_run: the longest run, known to the host */
	const uint32_t *start, *slot;
	size_t stride; /* 0: each kind's own size */
};

/*
 * out[t][c] = silu(sum over m < 4 of w[c][m] * window[m]); state read and replaced by the last
 * three inputs, runs shorter than three included. x, out [tokens][channels]; w [channels][4]; out is
 * another array than x.
 */
int cuda_delta_conv(cuda_stream stream, const struct cuda_delta_shape *s,
		    const struct cuda_delta_batch *b, const float *x, const float *w, float *state,
		    float *out);

/*
 * In place on the output of the convolution and on the projections: q, k <- l2 normalised (eps 1e-6
 * inside the root), q times dim^-1/2; beta <- sigmoid(beta); decay <- a * softplus(alpha + dt), the
 * logarithm of the decay (<= 0). alpha and beta [tokens][v_heads]; a, dt [v_heads]; decay may be alpha.
 */
int cuda_delta_prepare(cuda_stream stream, const struct cuda_delta_shape *s, size_t tokens,
		       float *qkv, const float *alpha, float *beta, const float *a, const float *dt,
		       float *decay);

struct cuda_delta {
	struct cuda_delta_shape shape;
	struct cuda_delta_batch batch;
	const float *qkv;   /* [tokens][channels], prepared */
	const float *decay; /* [tokens][v_heads], logarithm */
	const float *beta;  /* [tokens][v_heads] */
	float *state;	    /* S, read and written; 16-aligned */
	float *out;	    /* [tokens][v_heads * dim] */
	void *scratch;	    /* chunked form only */
};
/* Token by token: decay, read, write, output with the new S. Any run length; meant for short ones. */
int cuda_delta_step(cuda_stream stream, const struct cuda_delta *d);
/* Chunks of 64 tokens (docs/models.md 2.4), f32 throughout; equal to the step within rounding. */
size_t cuda_delta_chunk_scratch(const struct cuda_delta_shape *s, size_t sequences, size_t tokens);
int cuda_delta_chunk(cuda_stream stream, const struct cuda_delta *d);

/* out = rmsnorm of each head of o (w [dim], eps) * silu(z); o, z, out [tokens][heads * dim]; act:
 * an int8 form of out too; out or act.rows may be NULL */
int cuda_delta_out(cuda_stream stream, const float *o, const float *z, const float *w,
		   size_t tokens, size_t heads, size_t dim, float eps, float *out,
		   struct cuda_act act);

/* ---- logits --------------------------------------------------------------------------------- */

/* ids[t] = the index of the largest of n logits, the lowest among equals; NaN counts as -inf */
int cuda_argmax(cuda_stream stream, const float *logits, size_t ld, size_t n, size_t rows,
		uint32_t *ids);
/*
 * The k largest (k <= 256, k <= n), largest first, equal ones by the lower index (-0 and 0 are
 * equal): ids, values [rows][k]. Values are the logits as given, but NaN counts as -inf and is
 * written so, which happens only where fewer than k are larger than -inf. At most 65535 rows.
 * Two launches. The scratch is 0 bytes for what cuda_topk refuses and for no rows.
 */
size_t cuda_topk_scratch(size_t n, size_t rows, unsigned k);
int cuda_topk(cuda_stream stream, const float *logits, size_t ld, size_t n, size_t rows, unsigned k,
	      uint32_t *ids, float *values, void *scratch);
/* out[t][i] = logits[t][i] - log(sum of exp); out may be logits; out NULL: only lse[t] is written,
 * lse NULL: only out */
int cuda_log_softmax(cuda_stream stream, const float *logits, size_t ld, size_t n, size_t rows,
		     float *out, float *lse);

#ifdef __cplusplus
}
#endif
#endif
