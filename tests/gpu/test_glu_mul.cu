/* SPDX-License-Identifier: MIT */
/*
 * Description: act(gate) * up has the bits of every CPU level, in all forms, from subnormal results of exp to
 * its overflow and what is not finite; its int8 form is that of the floats.
 */
#include "tests/gpu/law_ref.h"

#include <errno.h>

static const struct cuda_act no_act = { CUDA_IN_NONE, NULL };

static void check_values(enum cuda_glu kind, const std::vector<float> &gate,
			 const std::vector<float> &up, const std::vector<float> &got)
{
	static const enum glu kinds[] = { GLU_SILU, GLU_CLAMPED, GLU_GELU };
	std::vector<float> want(gate.size());

	for (int l = 0; l < CPU_LEVEL_NR; l++) {
		const struct float_ops *f = float_ops_get((enum cpu_level)l);

		if (!f)
			continue;
		f->glu(kinds[kind], gate.data(), up.data(), want.data(), want.size());
		for (size_t i = 0; i < want.size(); i++) /* levels differ in how they say it */
			if (!isfinite(gate[i]) || !isfinite(up[i]))
				want[i] = isfinite(want[i]) ? want[i] : NAN;
		check_law(kind == CUDA_GLU_SILU	     ? "silu"
			  : kind == CUDA_GLU_CLAMPED ? "clamped"
						     : "gelu",
			  got.data(), want.data(), want.size());
	}
}

static void check_case(enum cuda_glu kind, enum cuda_input form, size_t n, size_t rows, size_t ld)
{
	std::vector<float> gate = random_floats(rows * ld, 3.0f),
			   up = random_floats(rows * ld, 2.0f);
	std::vector<float> tight_gate, tight_up;
	static const float edges[] = { -200.0f, 200.0f, 0.0f,	-0.0f,	 87.0f,	   87.3f,
				       -87.0f,	-87.4f, 88.0f,	88.73f,	 -88.73f,  89.5f,
				       90.5f,	-95.0f, 104.0f, -104.0f, 1e-40f,   -1e-40f,
				       1e20f,	-1e20f, 3e38f,	NAN,	 INFINITY, -INFINITY };
	device_array<float> out(rows * n);
	device_array<uint8_t> act(rows * cuda_act_bytes(n)), alone(rows * cuda_act_bytes(n));

	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]) && i < n; i++)
		gate[i] = edges[i];
	up[n - 1] = NAN;
	device_array<float> dg(gate), du(up);
	check_equal("glu", n,
		    cuda_glu_mul(NULL, kind, dg.p, du.p, ld, n, rows, out.p, { form, act.p }), 0);
	for (size_t r = 0; r < rows; r++) {
		const long at = (long)(r * ld), end = at + (long)n;

		tight_gate.insert(tight_gate.end(), gate.begin() + at, gate.begin() + end);
		tight_up.insert(tight_up.end(), up.begin() + at, up.begin() + end);
	}
	check_values(kind, tight_gate, tight_up, out.get());
	check_act("act", form, out.get(), n, act.get());
	check_equal("glu", n,
		    cuda_glu_mul(NULL, kind, dg.p, du.p, ld, n, rows, NULL, { form, alone.p }), 0);
	check_act("act alone", form, out.get(), n, alone.get());
}

/* exp over its whole range, as sigmoids of 200,000 gates */
static void check_range(void)
{
	std::vector<float> gate, up(200000, 1.0f);

	for (size_t i = 0; i < up.size(); i++)
		gate.push_back(-110.0f + 220.0f * (float)i / (float)up.size());
	device_array<float> dg(gate), du(up), out(up.size());
	for (int k = 0; k < 3; k++) {
		check_equal("range", 0,
			    cuda_glu_mul(NULL, (enum cuda_glu)k, dg.p, du.p, up.size(), up.size(),
					 1, out.p, no_act),
			    0);
		check_values((enum cuda_glu)k, gate, up, out.get());
	}
}

int main(int argc, char **argv)
{
	device_array<float> x(64);

	for (int k = 0; k < 3; k++) {
		const enum cuda_glu kind = (enum cuda_glu)k;

		check_case(kind, CUDA_IN_Q8_0, 32, 1, 32);
		check_case(kind, CUDA_IN_Q8_0, 96, 5, 96);
		check_case(kind, CUDA_IN_Q8_0, 416, 3, 450);
		check_case(kind, CUDA_IN_Q8_K, 768, 3, 800);
	}
	check_range();
	if (option_all(argc, argv))
		check_case(CUDA_GLU_SILU, CUDA_IN_Q8_K, 17408, 9, 17408);
	const enum cuda_glu s = CUDA_GLU_SILU;
	const struct cuda_act a = { CUDA_IN_Q8_0, x.p };
	check_equal("no rows", 0, cuda_glu_mul(NULL, s, NULL, NULL, 0, 0, 0, NULL, no_act), 0);
	check_equal("odd", 0, cuda_glu_mul(NULL, s, x.p, x.p, 33, 33, 1, NULL, a), -EINVAL);
	check_equal("odd floats", 0, cuda_glu_mul(NULL, s, x.p, x.p, 33, 33, 1, x.p, no_act), 0);
	check_equal("ld", 0, cuda_glu_mul(NULL, s, x.p, x.p, 31, 32, 1, x.p, no_act), -EINVAL);
	check_equal("nothing", 0, cuda_glu_mul(NULL, s, x.p, x.p, 32, 32, 1, NULL, no_act),
		    -EINVAL);
	check_equal("gate", 0, cuda_glu_mul(NULL, s, NULL, x.p, 32, 32, 1, x.p, no_act), -EINVAL);
	check_equal("kind", 0,
		    cuda_glu_mul(NULL, (enum cuda_glu)3, x.p, x.p, 32, 32, 1, x.p, no_act),
		    -EINVAL);
	return values_report("glu_mul");
}
