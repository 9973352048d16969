/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/dry.cpp: in place of timing, peaks and cuBLAS where the benchmark is built over the
 * shim: every launch is made once, so that shapes, sizes and pointers of every case are seen by the
 * sanitizers before anybody has a GPU. It measures nothing: its table's times are 1.
 */
#include "tests/bench/gpu/bench.h"

double time_launches(int count, const std::function<int(cuda_stream, int)> &launch)
{
	for (int i = 0; i < count; i++)
		must(launch(NULL, i), "a launch");
	return 1.0;
}

const struct peaks &machine_peaks(void)
{
	static const struct peaks k = {};

	return k;
}

double cublas_int8(size_t, size_t, size_t)
{
	return 0.0;
}

double cublas_bf16(size_t, size_t, size_t)
{
	return 0.0;
}

const char *cublas_name(void)
{
	return NULL;
}
