/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/float_scalar.c: float_ops in plain C, the reference of the other levels, and the
 * choice of the table. See fops.h. Sums run in double and are rounded once.
 */
#include "kernels/cpu/fops.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/float_impl.h"
#include "kernels/cpu/float_kv_store.h"

#define ATTEND_ROWS 16

static void rmsnorm(const float *x, const float *w, size_t n, float eps, float *out)
{
	double sum = 0.0;
	float scale;

	for (size_t i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	scale = scale_or_nan((float)(1.0 / sqrt(sum / (double)n + (double)eps)));
	for (size_t i = 0; i < n; i++)
		out[i] = x[i] * scale * (w ? w[i] : 1.0f);
}

static void add(const float *x, float *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += x[i];
}

static void axpy(float a, const float *x, float *y, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] = fmaf(a, x[i], y[i]);
}

static void scale(float a, const float *x, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = a * x[i];
}

static float silu(float x)
{
	return x / (1.0f + expf(-x));
}

/* The law of activations (quant.h): y / (1 + exp(-x)). */
static float law_sigmoid_mul(float x, float y)
{
	return y / (1.0f + law_exp(-x));
}

static void silu_mul(const float *gate, const float *up, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = law_sigmoid_mul(gate[i], gate[i]) * up[i];
}

static float glu_value(enum glu kind, float g, float u)
{
	switch (kind) {
	case GLU_CLAMPED:
		g = g > LAW_GLU_LIMIT ? LAW_GLU_LIMIT : g;
		u = u > LAW_GLU_LIMIT ? LAW_GLU_LIMIT : u < -LAW_GLU_LIMIT ? -LAW_GLU_LIMIT : u;
		return law_sigmoid_mul(LAW_GLU_ALPHA * g, g) * (u + 1.0f);
	case GLU_GELU:
		return law_sigmoid_mul(LAW_GELU_FACTOR * (g + LAW_GELU_CUBE * g * (g * g)), g) * u;
	default: /* GLU_RELU2 */
		u = u > 0.0f ? u : 0.0f;
		return u * u;
	}
}

static void glu(enum glu kind, const float *gate, const float *up, float *out, size_t n)
{
	if (kind == GLU_SILU) {
		silu_mul(gate, up, out, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		float g = kind == GLU_RELU2 ? 0.0f : gate[i], u = up[i];

		out[i] = isfinite(g) && isfinite(u) ? glu_value(kind, g, u) : NAN;
	}
}

static void softcap(float cap, const float *x, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = isfinite(x[i]) ? cap * tanhf(x[i] / cap) : NAN;
}

static void sigmoid_mul(const float *x, const float *gate, float *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = isfinite(gate[i]) ? x[i] / (1.0f + expf(-gate[i])) : NAN;
}

static float max_of(const float *x, size_t n)
{
	float max = -INFINITY;

	for (size_t i = 0; i < n; i++)
		max = x[i] > max ? x[i] : max;
	return max;
}

static void softmax(float *x, size_t n)
{
	float max = max_of(x, n), inverse;
	double sum = 0.0;

	for (size_t i = 0; i < n; i++) {
		x[i] = expf(x[i] - max);
		sum += (double)x[i];
	}
	inverse = (float)(1.0 / sum);
	for (size_t i = 0; i < n; i++)
		x[i] *= inverse;
}

static float dot(const float *a, const float *b, size_t n)
{
	double sum = 0.0;

	for (size_t i = 0; i < n; i++)
		sum += (double)a[i] * b[i];
	return (float)sum;
}

static void l2norm(const float *x, size_t n, float eps, float factor, float *out)
{
	double sum = 0.0;

	for (size_t i = 0; i < n; i++)
		sum += (double)x[i] * x[i];
	scale(scale_or_nan((float)((double)factor / sqrt(sum + (double)eps))), x, out, n);
}

static void rope(float *x, const float *cosine, const float *sine, size_t half)
{
	for (size_t i = 0; i < half; i++) {
		float a = x[i], b = x[half + i];

		x[i] = a * cosine[i] - b * sine[i];
		x[half + i] = a * sine[i] + b * cosine[i];
	}
}

static void conv_silu(const float *const *rows, const float *w, unsigned taps, size_t first,
		      size_t end, float *out)
{
	for (size_t c = first; c < end; c++) {
		float sum = 0.0f;

		for (unsigned m = 0; m < taps; m++)
			sum += w[c * taps + m] * rows[m][c];
		out[c] = silu(sum);
	}
}

static void to_halves(const float *x, size_t n, uint16_t *out)
{
	for (size_t i = 0; i < n; i++) {
		float v = x[i] > KV_HALF_MAX ? KV_HALF_MAX : x[i];

		out[i] = isfinite(x[i]) ? f16_from_f32(v < -KV_HALF_MAX ? -KV_HALF_MAX : v)
					: KV_HALF_NAN;
	}
}

static void kv_store_k(enum kv_type type, size_t dim, unsigned slot, const float *k, void *k_block)
{
	uint16_t halves[KV_MAX_HEAD_DIM];

	if (type == KV_Q8_0) {
		kv_store_k_q8(dim, slot, k, k_block);
		return;
	}
	to_halves(k, dim, halves);
	kv_store_k_halves(dim, slot, halves, k_block);
}

static void kv_store_v(enum kv_type type, size_t dim, unsigned slot, const float *v, void *v_block)
{
	uint16_t halves[KV_MAX_HEAD_DIM];

	if (type == KV_Q8_0) {
		kv_store_v_q8(dim, slot, v, v_block);
		return;
	}
	to_halves(v, dim, halves);
	kv_store_v_halves(dim, slot, halves, v_block);
}

static void kv_store(enum kv_type type, size_t head_dim, unsigned slot, const float *k,
		     const float *v, void *k_block, void *v_block)
{
	kv_store_k(type, head_dim, slot, k, k_block);
	kv_store_v(type, head_dim, slot, v, v_block);
}

/* K of dimension d at position j of a block */
static float key_at(const struct attend_args *a, size_t d, unsigned j)
{
	const uint8_t *k = a->k;
	uint16_t h;

	if (a->type == KV_F16) {
		memcpy(&h, k + ((j / KV_TILE * a->head_dim + d) * KV_TILE + j % KV_TILE) * 2, 2);
		return f32_from_f16(h);
	}
	k += (j / KV_TILE * (a->head_dim / KV_Q8) + d / KV_Q8) * KV_Q8_K_BYTES;
	memcpy(&h, k + j % KV_TILE * 2, 2);
	return f32_from_f16(h) * (float)(int8_t)k[2 * KV_TILE + d % KV_Q8 * KV_TILE + j % KV_TILE];
}

static float value_at(const struct attend_args *a, size_t d, unsigned j)
{
	const uint8_t *v = a->v;
	uint16_t h;

	if (a->type == KV_F16) {
		memcpy(&h, v + ((d / KV_TILE * KV_BLOCK + j) * KV_TILE + d % KV_TILE) * 2, 2);
		return f32_from_f16(h);
	}
	v += d / KV_Q8 * KV_Q8_V_BYTES;
	memcpy(&h, v + j * 2, 2);
	return f32_from_f16(h) * (float)(int8_t)v[2 * KV_BLOCK + j * KV_Q8 + d % KV_Q8];
}

/* n scores -> exp(score - m) for one row, with m and l brought up to date; factor for acc. */
static float soften(float *s, unsigned n, float *m, float *l)
{
	float highest = *m, correction;

	for (unsigned j = 0; j < n; j++)
		highest = s[j] > highest ? s[j] : highest;
	correction = expf(*m - highest);
	*m = highest;
	*l *= correction;
	for (unsigned j = 0; j < n; j++) {
		s[j] = expf(s[j] - highest);
		*l += s[j];
	}
	return correction;
}

/* Up to ATTEND_ROWS rows: every cache value is unpacked once for all of them. */
static void attend_rows(const struct attend_args *a, size_t row, size_t rows)
{
	const size_t dims = attend_value_dim(a);
	const float *q = a->q + row * a->head_dim;
	float *acc = a->acc + row * dims, s[ATTEND_ROWS][KV_BLOCK] = { 0 };

	for (unsigned j = a->first; j < a->n_valid; j++)
		for (size_t d = 0; d < a->head_dim; d++) {
			float key = key_at(a, d, j);

			for (size_t r = 0; r < rows; r++)
				s[r][j] += q[r * a->head_dim + d] * key;
		}
	for (size_t r = 0; r < rows; r++)
		scale(soften(s[r] + a->first, a->n_valid - a->first, &a->m[row + r],
			     &a->l[row + r]),
		      acc + r * dims, acc + r * dims, dims);
	for (size_t d = 0; d < dims; d++)
		for (unsigned j = a->first; j < a->n_valid; j++) {
			float value = value_at(a, d, j);

			for (size_t r = 0; r < rows; r++)
				acc[r * dims + d] += s[r][j] * value;
		}
}

static void attend(const struct attend_args *a)
{
	for (size_t row = 0; row < a->rows; row += ATTEND_ROWS)
		attend_rows(a, row, a->rows - row < ATTEND_ROWS ? a->rows - row : ATTEND_ROWS);
}

static void attend_merge(float *m, float *l, float *acc, float m2, float l2, const float *acc2,
			 size_t head_dim)
{
	float highest = m2 > *m ? m2 : *m, first = expf(*m - highest), second = expf(m2 - highest);

	*m = highest;
	*l = *l * first + l2 * second;
	for (size_t i = 0; i < head_dim; i++)
		acc[i] = acc[i] * first + acc2[i] * second;
}

static void delta_token(const struct delta_args *a, size_t t)
{
	const float *q = a->q + t * a->ld, *k = a->k + t * a->ld, *v = a->v + t * a->ld;
	float decay = a->decay[t * a->ld_gate], beta = a->beta[t * a->ld_gate];

	for (unsigned j = 0; j < DELTA_LANES; j++) {
		float read = 0.0f, out = 0.0f, change;

		for (size_t i = 0; i < a->dim; i++)
			read += a->strip[i * DELTA_LANES + j] * k[i];
		change = beta * (v[j] - decay * read);
		for (size_t i = 0; i < a->dim; i++) {
			float *s = &a->strip[i * DELTA_LANES + j];

			*s = decay * *s + k[i] * change;
			out += *s * q[i];
		}
		a->o[t * a->ld_o + j] = out;
	}
}

static void delta(const struct delta_args *a)
{
	for (size_t t = 0; t < a->n_tokens; t++)
		delta_token(a, t);
}

static const struct float_ops table = {
	.level = CPU_SCALAR,
	.rmsnorm = rmsnorm,
	.add = add,
	.axpy = axpy,
	.scale = scale,
	.silu_mul = silu_mul,
	.glu = glu,
	.softcap = softcap,
	.sigmoid_mul = sigmoid_mul,
	.softmax = softmax,
	.dot = dot,
	.l2norm = l2norm,
	.rope = rope,
	.conv_silu = conv_silu,
	.kv_store = kv_store,
	.kv_store_k = kv_store_k,
	.kv_store_v = kv_store_v,
	.attend_query = attend_query_as_it_is,
	.attend = attend,
	.attend_merge = attend_merge,
	.delta = delta,
};

const struct float_ops *float_ops_get(enum cpu_level level)
{
	if (!cpu_level_available(level))
		return NULL;
	switch (level) {
	case CPU_SCALAR:
		return &table;
#if defined(__x86_64__)
	case CPU_AVX2:
		return &float_ops_avx2;
	case CPU_AVX512:
		return &float_ops_avx512;
#endif
	default:
		return NULL;
	}
}
