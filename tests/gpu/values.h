/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/values.h: device memory, random values, halves and comparisons for tests of kernels.
 *
 * Plain C++ over the runtime API, so that it means the same on a GPU and under the shim. A failed
 * comparison prints the first values that are wrong and counts them; a test's main returns
 * values_report(). One thread.
 */
#ifndef SLUICE_TESTS_GPU_VALUES_H
#define SLUICE_TESTS_GPU_VALUES_H

#include <cuda_runtime.h>

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

static unsigned values_checks, values_faults;

static inline void values_cuda(cudaError_t e, const char *what)
{
	if (e == cudaSuccess)
		return;
	fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(e));
	exit(1);
}

/* Memory of the device, @n values; freed with the object. */
template <class T> struct device_array {
	T *p = NULL;
	size_t n;

	explicit device_array(size_t count) : n(count)
	{
		values_cuda(cudaMalloc((void **)&p, n ? n * sizeof(T) : 1), "cudaMalloc");
	}
	explicit device_array(const std::vector<T> &v) : device_array(v.size())
	{
		put(v);
	}
	device_array(const device_array &) = delete;
	device_array &operator=(const device_array &) = delete;
	~device_array()
	{
		cudaFree(p);
	}
	void put(const std::vector<T> &v)
	{
		if (n)
			values_cuda(cudaMemcpy(p, v.data(), n * sizeof(T), cudaMemcpyHostToDevice),
				    "cudaMemcpy");
	}
	std::vector<T> get() const
	{
		std::vector<T> v(n);

		values_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
		if (n)
			values_cuda(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost),
				    "cudaMemcpy");
		return v;
	}
};

/* ---- random values: the same in every run ---- */

static uint64_t values_state = 0x9e3779b97f4a7c15u;

static inline uint32_t random_u32(void)
{
	uint64_t z = values_state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)((z ^ z >> 31) >> 32);
}

/* About normal, sigma @scale, |x| < 6 @scale */
static inline float random_float(float scale)
{
	float sum = 0.0f;

	for (int i = 0; i < 12; i++)
		sum += (float)(random_u32() >> 8) * 0x1p-24f;
	return (sum - 6.0f) * scale;
}

static inline std::vector<float> random_floats(size_t n, float scale)
{
	std::vector<float> v(n);

	for (float &x : v)
		x = random_float(scale);
	return v;
}

/* ---- halves ---- */

static inline double half_value(uint16_t h)
{
	const int e = h >> 10 & 31, m = h & 1023;
	const double v = e == 31 ? (m ? NAN : INFINITY)
			 : e	 ? ldexp(1024 + m, e - 25)
				 : ldexp(m, -24);

	return h & 0x8000 ? -v : v;
}

/* Rounded to nearest even, held to 65504 */
static inline uint16_t half_of(double x)
{
	const uint16_t sign = signbit(x) ? 0x8000 : 0;
	double a = fabs(x);
	int e;

	if (isnan(x))
		return 0x7fff;
	if (a >= 65504.0)
		return sign | 0x7bff;
	frexp(a, &e); /* a in [2^(e-1), 2^e) */
	if (e < -13)
		e = -13;
	a = nearbyint(ldexp(a, 11 - e)); /* 1024 .. 2048, or less where subnormal */
	if (a >= 2048.0) {
		a /= 2;
		e++;
	}
	if (e > 16)
		return sign | 0x7bff;
	return sign | (a < 1024.0 ? (uint16_t)a : (uint16_t)((e + 14) << 10 | ((int)a - 1024)));
}

/* ---- comparisons ---- */

static inline bool values_fault(const char *what, size_t i)
{
	if (++values_faults > 20)
		return false;
	fprintf(stderr, "%s, value %zu: ", what, i);
	return true;
}

/* |got - want| <= bound */
static inline void check_near(const char *what, size_t i, double got, double want, double bound)
{
	values_checks++;
	if (fabs(got - want) <= bound)
		return;
	if (values_fault(what, i))
		fprintf(stderr, "%.9g where %.9g is right, bound %.3g\n", got, want, bound);
}

static inline void check_equal(const char *what, size_t i, long long got, long long want)
{
	values_checks++;
	if (got == want)
		return;
	if (values_fault(what, i))
		fprintf(stderr, "%lld where %lld is right\n", got, want);
}

/* The same bits in @n values */
template <class T> static inline void check_bits(const char *what, const T *a, const T *b, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		values_checks++;
		if (memcmp(a + i, b + i, sizeof(T)) && values_fault(what, i))
			fprintf(stderr, "other bits\n");
	}
}

static inline bool option_all(int argc, char **argv)
{
	return argc > 1 && !strcmp(argv[1], "--all");
}

static inline int values_report(const char *name)
{
	printf("%s: %u values compared, %u wrong\n", name, values_checks, values_faults);
	return values_faults || !values_checks ? 1 : 0;
}

#endif
