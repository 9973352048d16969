/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/bench.h: what the benchmarks of single operations share: memory, timing, results.
 *
 * A case is a list of launches that differ only in which memory they take, long enough that their
 * data is several times the second cache; the list is captured in a graph and replayed, each replay
 * timed by events, and the median divided by the length is the time of one operation: launches in a
 * row, as in decode, not one alone. Peaks (peaks.cu) are measured in the same run. Failures end the
 * program with a sentence. Under the shim (dry.cpp) every launch is made once and nothing is timed.
 */
#ifndef SLUICE_TESTS_BENCH_GPU_BENCH_H
#define SLUICE_TESTS_BENCH_GPU_BENCH_H

#include "kernels/cuda/ops.h"
#include "kernels/quant.h"

#include <cuda_runtime.h>

#include <functional>
#include <string>
#include <vector>

/* Shapes of a published model (docs/models.md section 3). */
struct model {
	const char *name;
	size_t d, heads, kv_heads, dim, experts, used, f; /* experts 0: dense, f its width */
	size_t k_heads, v_heads;			  /* DeltaNet, 0: none */
	size_t vocab;
	unsigned rot;
};
extern std::vector<struct model> models;

/* @n tokens or positions; a few where --small was given (the dry run on the CPU) */
size_t sized(size_t n);
bool is_small(void);

/* Ends the program unless @rc is 0; @what names the launch. */
void must(int rc, const char *what);

/* @bytes of device memory, kept to the end of a case (release_all). */
void *device_bytes(size_t bytes);
void release_all(void);
/* @bytes of the host's memory that kernels reach too, zeroed; kept as long. */
void *mapped_bytes(size_t bytes);
/* @count random bytes of which every half is a number between 2^-15 and 1: sane scales in any format */
uint8_t *random_weights(size_t bytes);
float *random_floats(size_t count); /* between -1 and 1 */
uint32_t random_below(uint32_t n);  /* the same in every run */
template <class T> T *device_copy(const std::vector<T> &v)
{
	T *p = (T *)device_bytes(v.size() * sizeof(T) + 16);

	must(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
	return p;
}

/* Microseconds of one of @count launches in a row; launch(stream, i) puts the i-th on the stream. */
double time_launches(int count, const std::function<int(cuda_stream, int)> &launch);

/* How many copies of @bytes are needed to be several times the second cache: 2 to 64 */
int copies_of(size_t bytes);

/* What the GPU here reaches (peaks.cu), measured once. Bytes or operations a second. */
struct peaks {
	double read, copy;	  /* bytes/s: reading 4 GiB; copying 2 GiB, read and written */
	double int8, half, fma32; /* operations/s of mma.sync in registers, and of f32 FMAs */
};
const struct peaks &machine_peaks(void);

/* cuBLAS, if it can be loaded (SLUICE_CUBLAS names the library): microseconds of y = x w^T, or 0. */
double cublas_int8(size_t rows, size_t cols, size_t n);
double cublas_bf16(size_t rows, size_t cols, size_t n);
const char *cublas_name(void);

/* One line of the result. Unused figures are 0. */
struct result {
	std::string op, model, detail;
	double us, bytes, ops;
	double peak_bytes, peak_ops; /* what they are a share of */
	double other_us;	     /* cuBLAS on the same shape */
};
void report(const struct result &r);
/* A line that is a time alone. */
void report_us(const char *op, const char *model, const std::string &detail, double us);
/* true: cases of @op were asked for */
bool wanted(const char *op);

/* The parts */
void bench_products(void);
void bench_experts(void);
void bench_attention(void);
void bench_small(void);
void bench_layers(void);
void bench_handoff(void);

#endif
