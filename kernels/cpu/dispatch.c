/* SPDX-License-Identifier: MIT */
/*
 * kernels/cpu/dispatch.c: which level this CPU and its operating system can run. The compiler's
 * __builtin_cpu_supports reads cpuid and xgetbv, so a level whose registers the kernel does not
 * save (or a tool such as valgrind hides) is not offered.
 */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <errno.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

#if defined(__x86_64__)
/* Half floats are asked of cpuid: clang 14's __builtin_cpu_supports does not know their name. */
static bool has_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool cpu_level_available(enum cpu_level level)
{
#if defined(__x86_64__)
	__builtin_cpu_init();
	switch (level) {
	case CPU_SCALAR:
		return true;
	case CPU_AVX2:
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		       has_f16c() && __builtin_cpu_supports("bmi") &&
		       __builtin_cpu_supports("bmi2");
	case CPU_AVX512:
		return cpu_level_available(CPU_AVX2) && __builtin_cpu_supports("avx512f") &&
		       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
		       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
	default:
		return false;
	}
#else
	return level == CPU_SCALAR;
#endif
}

const struct cpu_ops *cpu_ops_get(enum cpu_level level)
{
	if (!cpu_level_available(level))
		return NULL;
	switch (level) {
#if defined(__x86_64__)
	case CPU_AVX2:
		return &cpu_ops_avx2;
	case CPU_AVX512:
		return &cpu_ops_avx512;
#endif
	default:
		return &cpu_ops_scalar;
	}
}

const struct cpu_ops *cpu_ops_best(void)
{
	int level = CPU_LEVEL_NR - 1;

	while (!cpu_ops_get((enum cpu_level)level))
		level--;
	return cpu_ops_get((enum cpu_level)level);
}

int cpu_ops_parse(const char *name, const struct cpu_ops **ret_ops)
{
	static const char *const names[CPU_LEVEL_NR] = { "scalar", "avx2", "avx512" };
	const struct cpu_ops *ops = NULL;

	if (!strcmp(name, "auto")) {
		*ret_ops = cpu_ops_best();
		return 0;
	}
	for (int level = 0; level < CPU_LEVEL_NR; level++) {
		if (strcmp(name, names[level]))
			continue;
		ops = cpu_ops_get((enum cpu_level)level);
		if (!ops)
			return -ENOTSUP;
		*ret_ops = ops;
		return 0;
	}
	return -EINVAL;
}
