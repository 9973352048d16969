/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/cublas.cpp: cuBLAS on the same shape, loaded at run time so that nothing here needs it
 * to build. SLUICE_CUBLAS names the library; else the loader looks for libcublas.so.13 and .12.
 * Functions and constants: cuBLAS documentation, cublasGemmEx.
 */
#include "tests/bench/gpu/bench.h"

#include <dlfcn.h>
#include <stdlib.h>

#include <library_types.h>

typedef int (*create_fn)(void **handle);
typedef int (*set_stream_fn)(void *handle, cudaStream_t stream);
typedef int (*workspace_fn)(void *handle, void *p, size_t bytes);
typedef int (*gemm_fn)(void *handle, int ta, int tb, int m, int n, int k, const void *alpha,
		       const void *a, cudaDataType_t at, int lda, const void *b, cudaDataType_t bt,
		       int ldb, const void *beta, void *c, cudaDataType_t ct, int ldc, int compute,
		       int algo);

#define OP_N	     0
#define OP_T	     1
#define COMPUTE_32F  68
#define COMPUTE_32I  72
#define ALGO_DEFAULT (-1)

static struct {
	void *handle;
	set_stream_fn set_stream;
	gemm_fn gemm;
	std::string name;
} blas;

static bool load(void)
{
	const char *const names[] = { getenv("SLUICE_CUBLAS"), "libcublas.so.13",
				      "libcublas.so.12" };
	create_fn create;
	workspace_fn workspace;
	static bool tried;

	if (tried)
		return blas.handle;
	tried = true;
	for (const char *name : names) {
		void *lib = name ? dlopen(name, RTLD_NOW | RTLD_GLOBAL) : NULL;

		if (!lib)
			continue;
		create = (create_fn)dlsym(lib, "cublasCreate_v2");
		workspace = (workspace_fn)dlsym(lib, "cublasSetWorkspace_v2");
		blas.set_stream = (set_stream_fn)dlsym(lib, "cublasSetStream_v2");
		blas.gemm = (gemm_fn)dlsym(lib, "cublasGemmEx");
		if (!create || !blas.set_stream || !blas.gemm || create(&blas.handle))
			continue;
		if (workspace) {
			void *p;

			if (cudaMalloc(&p, 64 << 20) == cudaSuccess) /* for the whole run */
				workspace(blas.handle, p, 64 << 20);
		}
		blas.name = name;
		return true;
	}
	return false;
}

const char *cublas_name(void)
{
	return load() ? blas.name.c_str() : NULL;
}

static double run(size_t rows, size_t cols, size_t n, cudaDataType_t in, size_t in_bytes,
		  cudaDataType_t out, int compute)
{
	const float one = 1.0f, zero = 0.0f;
	const int one_int = 1, zero_int = 0;
	const bool integer = compute == COMPUTE_32I;
	uint8_t *w, *x, *y;
	bool failed = false;
	double us;

	if (!load())
		return 0.0;
	w = random_weights(rows * n * in_bytes);
	x = random_weights(cols * n * in_bytes);
	y = (uint8_t *)device_bytes(rows * cols * 4);
	us = time_launches(4, [&](cuda_stream s, int) {
		int rc;

		blas.set_stream(blas.handle, s);
		rc = blas.gemm(blas.handle, OP_T, OP_N, (int)rows, (int)cols, (int)n,
			       integer ? (const void *)&one_int : &one, w, in, (int)n, x, in,
			       (int)n, integer ? (const void *)&zero_int : &zero, y, out, (int)rows,
			       compute, ALGO_DEFAULT);
		failed |= rc != 0;
		return 0;
	});
	return failed ? 0.0 : us;
}

double cublas_int8(size_t rows, size_t cols, size_t n)
{
	return run(rows, cols, n, CUDA_R_8I, 1, CUDA_R_32I, COMPUTE_32I);
}

double cublas_bf16(size_t rows, size_t cols, size_t n)
{
	return run(rows, cols, n, CUDA_R_16BF, 2, CUDA_R_32F, COMPUTE_32F);
}
