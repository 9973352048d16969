/* SPDX-License-Identifier: MIT */
/*
 * Description: per-head norms, rope and the store into KV pages, against double.
 *
 * Bound of a rotated value a cos - b sin, in units of |a| + |b|: the norms 18 * 2^-24 (rmsnorm.cu),
 * sine and cosine 2^-21 (2 ulp, three roundings of the series, its rest below 2^-23), mscale, the
 * two products and the scale 2^-22: in all below 2^-19. A half adds 2^-11 of the value or 2^-25. q8_0
 * adds d / 2, the quotient's rounding (127 * 2^-24 of d) included; where d was rounded down, the block's
 * largest value is held to 127, which is nearer than d / 2: 127 * 2^-11 d.
 * Values are not computed with: V is compared bit for bit.
 */
#include "kernels/cuda/ops.h"
#include "tests/gpu/kv_pages.h"

#include <errno.h>

#define EPS 1e-6f

struct shape {
	enum cuda_kv type;
	size_t dim, heads, kv_heads, tokens;
	unsigned rot;
	bool beside, norms;
	uint32_t far; /* positions end here */
};

struct inputs {
	std::vector<float> q, k, v, wq, wk, freq;
	std::vector<uint32_t> pos, seq;
	size_t ldq, ldkv;
};

static struct inputs make_inputs(const struct shape &s)
{
	struct inputs in;

	in.ldq = s.heads * s.dim * (s.beside ? 2 : 1) + 3;
	in.ldkv = s.kv_heads * s.dim + 1;
	in.q = random_floats(s.tokens * in.ldq, 2.0f);
	in.k = random_floats(s.tokens * in.ldkv, 2.0f);
	in.v = random_floats(s.tokens * in.ldkv, 2.0f);
	in.wq = random_floats(s.dim, 1.0f);
	in.wk = random_floats(s.dim, 1.0f);
	for (unsigned j = 0; j < s.rot / 2; j++)
		in.freq.push_back((float)pow(1e7, -2.0 * j / s.rot));
	for (size_t t = 0; t < s.tokens; t++) {
		in.seq.push_back((uint32_t)(t % 3));
		in.pos.push_back(s.far - 1 - (uint32_t)(t / 3));
	}
	return in;
}

struct outputs {
	std::vector<float> q;
	std::vector<uint8_t> pool;
};

/* Tokens [from, to) in one launch */
static struct outputs run(const struct shape &s, const struct inputs &in, const kv_pages &kv,
			  size_t from, size_t to)
{
	device_array<float> q(in.q), k(in.k), v(in.v), wq(in.wq), wk(in.wk), freq(in.freq);
	device_array<float> out((to - from) * s.heads * s.dim);
	device_array<uint32_t> pos(in.pos), seq(in.seq), table(kv.table);
	device_array<uint8_t> pool(kv.pool);
	struct cuda_qkv a = {};

	a.q = q.p + from * in.ldq;
	a.k = k.p + from * in.ldkv;
	a.v = v.p + from * in.ldkv;
	a.ldq = in.ldq;
	a.ldkv = in.ldkv;
	a.q_step = s.beside ? 2 * s.dim : s.dim;
	a.wq = s.norms ? wq.p : NULL;
	a.wk = s.norms ? wk.p : NULL;
	a.eps = EPS;
	a.pos = pos.p + from;
	a.seq = seq.p + from;
	a.tokens = to - from;
	a.heads = s.heads;
	a.rot = s.rot;
	a.inv_freq = freq.p;
	a.mscale = 1.1f;
	a.scale = 0.0625f;
	a.q_out = out.p;
	a.kv = kv.on(pool, table);
	check_equal("qkv_rope_store", s.dim, cuda_qkv_rope_store(NULL, &a), 0);
	return outputs{ out.get(), pool.get() };
}

/* The head in double, normed and turned; bound[i]: 2^-19 (|a| + |b|) */
static void reference(const struct shape &s, const struct inputs &in, const float *x,
		      const float *w, uint32_t pos, std::vector<double> *y,
		      std::vector<double> *bound)
{
	std::vector<double> n(x, x + s.dim);
	double sum = 0;

	for (double v : n)
		sum += v * v;
	for (size_t i = 0; i < s.dim && s.norms; i++)
		n[i] *= w[i] / sqrt(sum / (double)s.dim + (double)EPS);
	*y = n;
	bound->assign(s.dim, 0);
	for (size_t i = 0; i < s.dim; i++)
		(*bound)[i] = 0x1p-19 * fabs(n[i]);
	for (size_t j = 0; j < s.rot / 2; j++) {
		const double angle = (double)pos * in.freq[j], a = n[j], b = n[j + s.rot / 2];
		const double c = 1.1f * cos(angle), t = 1.1f * sin(angle);

		(*y)[j] = a * c - b * t;
		(*y)[j + s.rot / 2] = b * c + a * t;
		(*bound)[j] = (*bound)[j + s.rot / 2] = 1.1 * 0x1p-19 * (fabs(a) + fabs(b));
	}
}

static void check_token(const struct shape &s, const struct inputs &in, const kv_pages &kv,
			const std::vector<float> &q_out, size_t t)
{
	std::vector<double> y, bound;
	const uint32_t pos = in.pos[t], seq = in.seq[t];

	for (size_t h = 0; h < s.heads; h++) {
		reference(s, in, &in.q[t * in.ldq + h * s.dim * (s.beside ? 2 : 1)], in.wq.data(),
			  pos, &y, &bound);
		for (size_t i = 0; i < s.dim; i++)
			check_near("query", i, q_out[(t * s.heads + h) * s.dim + i], y[i] * 0.0625,
				   bound[i] * 0.0625 + 0x1p-140);
	}
	for (size_t h = 0; h < s.kv_heads; h++) {
		kv_pages values(kv);

		reference(s, in, &in.k[t * in.ldkv + h * s.dim], in.wk.data(), pos, &y, &bound);
		for (size_t i = 0; i < s.dim; i++) {
			const double half = 0x1p-11 * fabs(y[i]) + 0x1p-25;
			const double d = s.type == CUDA_KV_F16
						 ? 0
						 : half_value(kv.half_at(kv.scale_at(
							   seq, pos, h, i / 32, false)));

			check_near("key", i, kv.get(seq, pos, h, i, false), y[i],
				   bound[i] + (d > 0 ? d / 2 * (1 + 0x1p-15) : half));
		}
		values.put(seq, pos, h, true, &in.v[t * in.ldkv + h * s.dim]);
		check_bits("value", &values.pool[kv.at(seq, pos, h, 0, true)],
			   &kv.pool[kv.at(seq, pos, h, 0, true)],
			   s.dim * (s.type == CUDA_KV_F16 ? 2 : 1));
		for (size_t b = 0; b < s.dim / 32 && s.type == CUDA_KV_Q8_0; b++)
			check_equal("scale of values", b,
				    kv.half_at(kv.scale_at(seq, pos, h, b, true)),
				    values.half_at(values.scale_at(seq, pos, h, b, true)));
	}
}

static void check_shape(const struct shape &s)
{
	const struct inputs in = make_inputs(s);
	kv_pages kv(s.type, s.kv_heads, s.dim, 3, s.far), before(kv);
	const struct outputs got = run(s, in, kv, 0, s.tokens);
	size_t changed = 0;

	kv.pool = got.pool;
	for (size_t t = 0; t < s.tokens; t++)
		check_token(s, in, kv, got.q, t);
	for (size_t i = 0; i < kv.pool.size(); i++)
		changed += kv.pool[i] != before.pool[i];
	check_equal("no byte elsewhere", changed,
		    changed <= s.tokens * cuda_kv_page_bytes(s.type, s.kv_heads, s.dim) / 64, true);
	for (size_t t = 0; t < s.tokens; t++) { /* alone: the same bits, query and page */
		const struct outputs one = run(s, in, before, t, t + 1);

		check_bits("query alone", one.q.data(), &got.q[t * s.heads * s.dim],
			   s.heads * s.dim);
		for (size_t i = 0; i < one.pool.size(); i++)
			if (one.pool[i] != 0xff)
				check_bits("cache alone", &one.pool[i], &got.pool[i], 1);
	}
}

static void check_refusals(void)
{
	device_array<float> f(1024);
	device_array<uint32_t> u(16);
	device_array<uint8_t> pool(cuda_kv_page_bytes(CUDA_KV_F16, 1, 64));
	struct cuda_qkv a = {}, b;

	check_equal("no tokens", 0, cuda_qkv_rope_store(NULL, &a), 0);
	check_equal("NULL", 0, cuda_qkv_rope_store(NULL, NULL), -EINVAL);
	a.q = a.k = a.v = a.inv_freq = f.p;
	a.q_out = f.p;
	a.ldq = a.q_step = a.ldkv = 64;
	a.pos = a.seq = u.p;
	a.tokens = a.heads = 1;
	a.rot = 64;
	a.kv = cuda_kv_cache{ CUDA_KV_F16, pool.p, u.p, 1, 1, 64 };
#define REFUSES(what, change)                                                 \
	do {                                                                  \
		b = a;                                                        \
		change;                                                       \
		check_equal(what, 0, cuda_qkv_rope_store(NULL, &b), -EINVAL); \
	} while (0)
	REFUSES("dim 96", b.kv.dim = 96);
	REFUSES("odd rot", b.rot = 33);
	REFUSES("rot beyond the head", b.rot = 66);
	REFUSES("no frequencies", b.inv_freq = NULL);
	REFUSES("heads", b.heads = 0);
	REFUSES("ldq", b.heads = 2);
	REFUSES("ldkv", b.kv.heads = 2);
	REFUSES("pool", b.kv.pool = NULL);
	REFUSES("pool off", b.kv.pool = pool.p + 8);
	REFUSES("type", b.kv.type = (enum cuda_kv)7);
	REFUSES("no pos", b.pos = NULL);
#undef REFUSES
}

int main(int argc, char **argv)
{
	static const struct shape small[] = {
		{ CUDA_KV_F16, 64, 3, 1, 1, 64, false, true, 1 },
		{ CUDA_KV_F16, 256, 4, 2, 5, 64, true, true, 130 },
		{ CUDA_KV_Q8_0, 256, 4, 2, 5, 64, true, true, 65 },
		{ CUDA_KV_Q8_0, 128, 7, 1, 4, 128, false, true, 70 },
		{ CUDA_KV_F16, 128, 8, 4, 3, 18, false, false, 300 },
		{ CUDA_KV_Q8_0, 64, 2, 2, 4, 0, false, false, 64 },
	};
	static const struct shape published[] = {
		{ CUDA_KV_F16, 256, 32, 2, 20, 64, true, true, 262144 },
		{ CUDA_KV_Q8_0, 256, 24, 4, 20, 64, true, true, 4096 },
		{ CUDA_KV_F16, 128, 64, 4, 20, 128, false, true, 4096 },
	};

	for (const struct shape &s : small)
		check_shape(s);
	if (option_all(argc, argv))
		for (const struct shape &s : published)
			check_shape(s);
	check_refusals();
	return values_report("qkv_rope_store");
}
