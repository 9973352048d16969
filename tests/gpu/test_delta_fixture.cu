/* SPDX-License-Identifier: MIT */
/*
 * Description: both forms of DeltaNet on a GPU agree with each other and with the CPU on real activations.
 *
 * The first layer of two fixtures, on the tokens beside them (72; all with --all). First each stage
 * alone, fed with what the CPU made of the stage before; then all of them in a row, from the layer's
 * projections to its output. Bounds with u = 2^-24: both sides err, so each stage allows the GPU's
 * bound (derived in its own test) and the CPU's, whose sums have up to dim additions on a path:
 *   convolution  2 (4.4 sum |w x| + 6 |out|) u
 *   norm         (9 + dim / 2 + 5) u |out|           output   (16.5 + dim / 2 + 12) u |out|
 *   recurrence   ref_step with 13 and with dim; chunks by ref_chunk_bounds
 * In a row, the inputs of the recurrence are apart by the bounds before it: |d k| <= 2 |d c| / |c| + the
 * norm's, and so on (struct ref_apart), and the output by what that makes of o and of its mean.
 */
#include "tests/gpu/delta_fixture.h"
#include "tests/gpu/fixture.h"
#include "tests/gpu/delta_rig.h"
#include "tests/gpu/delta_ref.h"

#include <string>

#define SLACK 1.01 /* terms of second order */

struct from_gpu {
	std::vector<float> convolved, prepared, gate, write, o, out, state;
};

static std::vector<float> copy(const float *from, size_t n)
{
	return std::vector<float>(from, from + n);
}

static struct cuda_delta_shape shape_of(const struct delta_fixture &f)
{
	return { f.k_heads, f.v_heads, f.dim, f.grouped };
}

static struct ref_head head_of(const struct delta_fixture &f, size_t v)
{
	const size_t kh = f.grouped ? v / (f.v_heads / f.k_heads) : v % f.k_heads;
	struct ref_head h = {};

	h.dim = f.dim;
	h.q = f.prepared + kh * f.dim;
	h.k = h.q + f.k_heads * f.dim;
	h.v = f.prepared + (2 * f.k_heads + v) * f.dim;
	h.ld = f.channels;
	h.decay = f.gate + v;
	h.beta = f.write + v;
	h.ld_gate = f.v_heads;
	return h;
}

static double conv_bound(const struct delta_fixture &f, size_t t, size_t c)
{
	double absolute = 0.0;

	for (size_t m = 0; m < 4; m++)
		if (t + m >= 3)
			absolute +=
				fabs((double)f.conv[c * 4 + m] * f.u[(t + m - 3) * f.channels + c]);
	return 2.0 * REF_U * (4.4 * absolute + 6.0 * fabs(f.convolved[t * f.channels + c])) +
	       REF_TINY;
}

/* On the device: convolution of @u, then the norms and gates of @convolved (NULL: of the former). */
static void run_inputs(const struct delta_fixture &f, const float *convolved, struct from_gpu *g)
{
	const struct cuda_delta_shape shape = shape_of(f);
	const size_t all = f.tokens * f.channels, gates = f.tokens * f.v_heads;
	on_device<float> u(copy(f.u, all)), w(copy(f.conv, f.channels * 4)),
		c(std::vector<float>(all, NAN)), window(std::vector<float>(3 * f.channels, 0.0f)),
		alpha(copy(f.alpha, gates)), beta(copy(f.beta, gates)), a(copy(f.a, f.v_heads)),
		dt(copy(f.dt, f.v_heads)), decay(std::vector<float>(gates, NAN));
	on_device<uint32_t> start(std::vector<uint32_t>{ 0, (uint32_t)f.tokens }),
		slot(std::vector<uint32_t>{ 0 });
	const struct cuda_delta_batch b = { 1, f.tokens, f.tokens, start.at, slot.at, 0 };

	MUST(cuda_delta_conv(NULL, &shape, &b, u.at, w.at, window.at, c.at) == 0);
	g->convolved = c.back();
	if (convolved)
		MUST(cudaMemcpy(c.at, convolved, all * 4, cudaMemcpyHostToDevice) == cudaSuccess);
	MUST(cuda_delta_prepare(NULL, &shape, f.tokens, c.at, alpha.at, beta.at, a.at, dt.at,
				decay.at) == 0);
	g->prepared = c.back();
	g->gate = decay.back();
	g->write = beta.back();
}

/* The recurrence over what @g holds, then norm and gate of @o (NULL: of its output). */
static void run_outputs(const struct delta_fixture &f, bool chunked, const float *o,
			struct from_gpu *g)
{
	delta_rig r(shape_of(f), { (uint32_t)f.tokens }, RIG_OPEN, 1);
	const size_t count = f.tokens * f.v_heads * f.dim;

	r.qkv = g->prepared;
	r.decay = g->gate;
	r.beta = g->write;
	r.state.assign(r.state.size(), 0.0f);
	MUST(r.run(chunked) == 0);
	g->o = r.out;
	g->state = copy(&r.state[r.state_at(0, 0)], f.v_heads * f.dim * f.dim);

	on_device<float> x(o ? copy(o, count) : g->o), z(copy(f.z, count)), w(copy(f.norm, f.dim)),
		y(std::vector<float>(count, NAN));

	MUST(cuda_delta_out(NULL, x.at, z.at, w.at, f.tokens, f.v_heads, f.dim, f.eps, y.at,
			    { CUDA_IN_NONE, NULL }) == 0);
	g->out = y.back();
}

static double gate_bound(const struct delta_fixture &f, size_t i)
{
	const double x = (double)f.alpha[i] + f.dt[i % f.v_heads];

	/* as in test_delta_prepare.cu, for both sides */
	return 2.0 * fabs(f.a[i % f.v_heads]) * REF_U *
		       (10.0 * log1p(exp(x)) + 2.0 * fabs(x) / (1.0 + exp(-x))) +
	       REF_TINY;
}

static void compare_inputs(const struct delta_fixture &f)
{
	const double norm = (9.0 + f.dim / 2.0 + 5.0) * REF_U;
	struct from_gpu g;

	run_inputs(f, f.convolved, &g);
	for (size_t t = 0; t < f.tokens; t++)
		for (size_t c = 0; c < f.channels; c++) {
			const size_t i = t * f.channels + c;
			const double d = c < 2 * f.k_heads * f.dim ? norm * fabs(f.prepared[i])
								   : 0.0;

			MUST(fabs((double)g.convolved[i] - f.convolved[i]) <=
			     conv_bound(f, t, c) * SLACK);
			MUST(fabs((double)g.prepared[i] - f.prepared[i]) <= d * SLACK);
		}
	for (size_t i = 0; i < f.tokens * f.v_heads; i++) {
		MUST(fabs((double)g.gate[i] - f.gate[i]) <= gate_bound(f, i) * SLACK);
		MUST(fabs((double)g.write[i] - f.write[i]) <= 12.0 * REF_U * f.write[i] * SLACK);
	}
}

/* What the inputs of value head @v, token @t are apart after convolution and norm on both sides. */
struct row_apart {
	struct ref_apart apart;
	std::vector<double> v;

	row_apart(const struct delta_fixture &f, size_t v_head, size_t t) : v(f.dim)
	{
		const size_t kh = f.grouped ? v_head / (f.v_heads / f.k_heads) : v_head % f.k_heads;
		const size_t gate = t * f.v_heads + v_head;

		apart.q = head(f, t, kh * f.dim) / sqrt((double)f.dim);
		apart.k = head(f, t, (f.k_heads + kh) * f.dim);
		for (size_t j = 0; j < f.dim; j++)
			v[j] = conv_bound(f, t, (2 * f.k_heads + v_head) * f.dim + j);
		apart.v = v.data();
		apart.decay = gate_bound(f, gate) + 4.0 * REF_U;
		apart.beta = 12.0 * REF_U;
	}

      private:
	/* of a vector of norm 1: twice the relative error of what was normed, and the norm's own */
	static double head(const struct delta_fixture &f, size_t t, size_t first)
	{
		double length = 0.0, d = 0.0;

		for (size_t c = first; c < first + f.dim; c++) {
			const double x = f.convolved[t * f.channels + c], e = conv_bound(f, t, c);

			length += x * x;
			d += e * e;
		}
		return 2.0 * sqrt(d / (length + 1e-6)) + (9.0 + f.dim / 2.0 + 5.0) * REF_U;
	}
};

/* Bounds of o, all tokens of one value head [tokens][dim], and of the columns of S at the end. */
struct head_bounds {
	std::vector<double> step, chunk, cpu,
		row; /* cpu: the CPU's own; row: that with inputs apart */
	std::vector<double> s_step, s_chunk, s_cpu, s_row;

	head_bounds(const struct delta_fixture &f, size_t v)
	    : step(f.tokens * f.dim), chunk(step), cpu(step), row(step)
	{
		const size_t dim = f.dim;
		const std::vector<float> empty(dim * dim, 0.0f);
		const struct ref_head h = head_of(f, v);
		struct ref_state a(empty.data(), dim), b = a, c = a, d = a;
		std::vector<double> out(REF_CHUNK * dim), error(dim);

		for (size_t t = 0; t < f.tokens; t++) {
			const size_t at = t * dim;
			const row_apart apart(f, v, t);

			if (t % REF_CHUNK == 0) {
				const size_t n = f.tokens - t < REF_CHUNK ? f.tokens - t
									  : REF_CHUNK;

				if (t)
					d.error = error;
				d.s = a.s;
				ref_chunk_bounds(h, t, n, d, out.data(), &chunk[at], &error);
			}
			ref_step(h, &a, t, out.data(), &step[at]);
			ref_step(h, &b, t, out.data(), &cpu[at], (double)dim);
			ref_step(h, &c, t, out.data(), &row[at], (double)dim, &apart.apart);
		}
		s_step = a.error;
		s_chunk = error;
		s_cpu = b.error;
		s_row = c.error;
	}
};

static void compare_state(const struct delta_fixture &f, const float *x, const float *y,
			  const std::vector<double> &b, const std::vector<double> &c)
{
	for (size_t j = 0; j < f.dim; j++) {
		double sum = 0.0;

		for (size_t i = 0; i < f.dim; i++) {
			const double d = (double)x[i * f.dim + j] - y[i * f.dim + j];

			sum += d * d;
		}
		MUST(sqrt(sum) <= (b[j] + c[j]) * SLACK);
	}
}

/* The outputs of a head of one token; @apart: what its o may be apart, NULL: the same o. */
static void compare_out(const struct delta_fixture &f, const float *out, size_t at,
			const double *apart)
{
	double sum = 0.0, d = 0.0, rms;

	for (size_t j = 0; j < f.dim; j++) {
		sum += (double)f.o[at + j] * f.o[at + j];
		d += apart ? apart[j] * apart[j] : 0.0;
	}
	rms = sqrt(sum / f.dim + f.eps);
	for (size_t j = 0; j < f.dim; j++) {
		const double z = f.z[at + j], factor = fabs(f.norm[j] * z / (1.0 + exp(-z)));
		double b = (16.5 + f.dim / 2.0 + 12.0) * REF_U * fabs(f.out[at + j]);

		if (apart)
			b += factor / rms * (apart[j] + fabs(f.o[at + j]) * sqrt(d / f.dim) / rms);
		MUST(fabs((double)out[at + j] - f.out[at + j]) <= b * SLACK + REF_TINY);
	}
}

/* Value head @v of everything: each form alone and in a row, and the forms with each other. */
static void compare_head(const struct delta_fixture &f, const struct from_gpu alone[2],
			 const struct from_gpu row[2], size_t v, double *most)
{
	const size_t dim = f.dim, wide = f.v_heads * dim, s = v * dim * dim;
	const struct head_bounds b(f, v);

	for (size_t t = 0; t < f.tokens; t++) {
		const size_t at = t * wide + v * dim;
		std::vector<double> apart[2] = { std::vector<double>(dim),
						 std::vector<double>(dim) };

		for (size_t j = 0; j < dim; j++) {
			const double mine[2] = { b.step[t * dim + j], b.chunk[t * dim + j] };
			const double cpu = b.cpu[t * dim + j], inputs = b.row[t * dim + j];
			const double x = f.o[at + j];

			for (int form = 0; form < 2; form++) {
				const double d = fabs(alone[form].o[at + j] - x);

				MUST(d <= (mine[form] + cpu) * SLACK);
				most[form] = fmax(most[form], d);
				apart[form][j] = mine[form] + inputs;
				MUST(fabs(row[form].o[at + j] - x) <= apart[form][j] * SLACK);
			}
			MUST(fabs((double)alone[0].o[at + j] - alone[1].o[at + j]) <=
			     (mine[0] + mine[1]) * SLACK);
		}
		compare_out(f, alone[0].out.data(), at, NULL);
		compare_out(f, row[0].out.data(), at, apart[0].data());
		compare_out(f, row[1].out.data(), at, apart[1].data());
	}
	compare_state(f, &alone[0].state[s], f.state + s, b.s_step, b.s_cpu);
	compare_state(f, &alone[1].state[s], f.state + s, b.s_chunk, b.s_cpu);
	compare_state(f, &alone[0].state[s], &alone[1].state[s], b.s_step, b.s_chunk);
	compare_state(f, &row[0].state[s], f.state + s, b.s_step, b.s_row);
	compare_state(f, &row[1].state[s], f.state + s, b.s_chunk, b.s_row);
}

static std::vector<uint32_t> tokens_of(const std::string &path)
{
	std::vector<uint32_t> ids;
	std::string text;
	char buf[4096];
	FILE *file = fopen(path.c_str(), "r");
	size_t n;

	MUST(file);
	while ((n = fread(buf, 1, sizeof(buf), file)))
		text.append(buf, n);
	fclose(file);
	n = text.find("\"tokens\"");
	MUST(n != std::string::npos);
	for (const char *p = strchr(text.c_str() + n, '['); p && *p != ']';) {
		char *end;

		ids.push_back((uint32_t)strtoul(p + 1, &end, 10));
		MUST(end != p + 1);
		p = end + strspn(end, " \n");
	}
	return ids;
}

static void fixture(const char *name, bool all)
{
	std::vector<uint32_t> ids = tokens_of(gpu_fixture(std::string(name) + ".json"));
	const size_t n = all || ids.size() < 72 ? ids.size() : 72;
	struct from_gpu alone[2], row[2];
	struct delta_fixture *f;
	double most[2] = {}, largest = 0.0;

	MUST(delta_fixture_make(gpu_fixture(std::string(name) + ".gguf").c_str(), ids.data(), n,
				&f) == 0);
	compare_inputs(*f);
	for (int form = 0; form < 2; form++) {
		struct from_gpu *g = &alone[form];

		g->prepared = copy(f->prepared, n * f->channels);
		g->gate = copy(f->gate, n * f->v_heads);
		g->write = copy(f->write, n * f->v_heads);
		run_outputs(*f, form == 1, f->o, g);
		run_inputs(*f, NULL, &row[form]);
		run_outputs(*f, form == 1, NULL, &row[form]);
	}
	for (size_t v = 0; v < f->v_heads; v++)
		compare_head(*f, alone, row, v, most);
	for (size_t i = 0; i < n * f->v_heads * f->dim; i++)
		largest = fmax(largest, fabs(f->o[i]));
	printf("%s: %zu tokens, |o| <= %.3g; from the CPU: step %.2g, chunk %.2g\n", name, n,
	       largest, most[0], most[1]);
	delta_fixture_free(f);
}

int main(int argc, char **argv)
{
	const bool all = argc > 1 && !strcmp(argv[1], "--all");

	fixture("moe/moe-q4_k_m", all);
	fixture("dense/dense-q4_k_m", all);
	return 0;
}
