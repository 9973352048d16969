/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/main.cu: make bench-gpu: time of each CUDA operation at the shapes of published models,
 * as shares of what this GPU reaches (peaks.cu) and beside cuBLAS where that can be loaded.
 *
 *   bench_gpu [--op NAME]... [--json FILE] [--small]
 *
 * A markdown table on stdout; the same as JSON in FILE. One GPU, the current one; one thread.
 */
#include "kernels/cuda/launch.h"
#include "tests/bench/gpu/bench.h"

#include <algorithm>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* name, d, heads, kv heads, head dim, experts, used, f, key and value heads of DeltaNet, vocab, rot */
std::vector<struct model> models = {
	{ "397B", 4096, 32, 2, 256, 512, 10, 1024, 16, 64, 248320, 64 },
	{ "122B", 3072, 32, 2, 256, 256, 8, 1024, 16, 64, 248320, 64 },
	{ "35B", 2048, 16, 2, 256, 256, 8, 512, 16, 32, 248320, 64 },
	{ "27B", 5120, 24, 4, 256, 0, 0, 17408, 16, 48, 248320, 64 },
	{ "30B", 2048, 32, 4, 128, 128, 8, 768, 0, 0, 151936, 128 },
};

/* The same kinds of model, small enough for a CPU: --small */
static const std::vector<struct model> small_models = {
	{ "397B", 256, 2, 1, 256, 16, 3, 256, 1, 2, 300, 64 },
	{ "27B", 256, 2, 2, 256, 0, 0, 512, 1, 3, 300, 64 },
	{ "30B", 256, 2, 1, 128, 8, 2, 256, 0, 0, 277, 128 },
};
static bool small;

static std::vector<void *> allocations, mapped_allocations;
static std::vector<std::string> ops_wanted;
static std::vector<struct result> results;

void must(int rc, const char *what)
{
	if (!rc)
		return;
	fprintf(stderr, "%s: failed with %d (%s)\n", what, rc,
		rc > 0 ? cudaGetErrorString((cudaError_t)rc) : strerror(-rc));
	exit(1);
}

void *device_bytes(size_t bytes)
{
	void *p;

	must(cudaMalloc(&p, bytes), "cudaMalloc");
	allocations.push_back(p);
	return p;
}

void release_all(void)
{
	must(cudaDeviceSynchronize(), "a kernel");
	for (void *p : allocations)
		cudaFree(p);
	allocations.clear();
	for (void *p : mapped_allocations)
		cudaFreeHost(p);
	mapped_allocations.clear();
}

void *mapped_bytes(size_t bytes)
{
	void *p;

	must(cudaHostAlloc(&p, bytes, cudaHostAllocMapped), "cudaHostAlloc");
	memset(p, 0, bytes);
	mapped_allocations.push_back(p);
	return p;
}

size_t sized(size_t n)
{
	return small ? std::max<size_t>(1, n / 512) : n;
}

static __device__ uint32_t mixed(uint64_t i)
{
	uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	return (uint32_t)((z ^ z >> 27) * 0x94d049bb133111ebu >> 32);
}

static __global__ void fill_weights(uint32_t *p, size_t count)
{
	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
	     i += (size_t)gridDim.x * blockDim.x)
		p[i] = mixed(i) & 0x3bff3bffu;
}

static __global__ void fill_floats(float *p, size_t count)
{
	for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
	     i += (size_t)gridDim.x * blockDim.x)
		p[i] = (float)(int32_t)mixed(i) * 0x1p-31f;
}

uint8_t *random_weights(size_t bytes)
{
	void *p = device_bytes(bytes + 256);

	if (small) {
		const std::vector<uint32_t> v(bytes / 4 + 1, 0x2a1b1c3du);

		must(cudaMemcpy(p, v.data(), v.size() * 4, cudaMemcpyHostToDevice), "cudaMemcpy");
		return (uint8_t *)p;
	}
	CUDA_LAUNCH(fill_weights, 4096, 256, 0, NULL, (uint32_t *)p, bytes / 4 + 1);
	must(CUDA_LAUNCHED(), "fill_weights");
	return (uint8_t *)p;
}

float *random_floats(size_t count)
{
	void *p = device_bytes(count * 4 + 256);

	if (small) {
		const std::vector<float> v(count, 0.25f);

		must(cudaMemcpy(p, v.data(), count * 4, cudaMemcpyHostToDevice), "cudaMemcpy");
		return (float *)p;
	}
	CUDA_LAUNCH(fill_floats, 4096, 256, 0, NULL, (float *)p, count);
	must(CUDA_LAUNCHED(), "fill_floats");
	return (float *)p;
}

uint32_t random_below(uint32_t n)
{
	static uint64_t state = 7;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33) % n;
}

bool is_small(void)
{
	return small;
}

int copies_of(size_t bytes)
{
	const size_t want = 512u << 20;

	if (small)
		return 2;
	return (int)std::min<size_t>(64, std::max<size_t>(2, want / std::max<size_t>(1, bytes)));
}

bool wanted(const char *op)
{
	return ops_wanted.empty() ||
	       std::find(ops_wanted.begin(), ops_wanted.end(), op) != ops_wanted.end();
}

static std::string share(double rate, double peak)
{
	char text[32] = "";

	if (rate > 0.0 && peak > 0.0)
		snprintf(text, sizeof(text), "%.0f %%", 100.0 * rate / peak);
	return text;
}

void report(const struct result &r)
{
	const double gbs = r.bytes / r.us / 1e3, tops = r.ops / r.us / 1e6;
	char bytes[32] = "", ops[32] = "";

	if (r.bytes > 0.0)
		snprintf(bytes, sizeof(bytes), "%.0f", gbs);
	if (r.ops > 0.0)
		snprintf(ops, sizeof(ops), "%.1f", tops);
	printf("| %s | %s | %s | %.2f | %s | %s | %s | %s | %s |\n", r.op.c_str(), r.model.c_str(),
	       r.detail.c_str(), r.us, bytes, share(gbs * 1e9, r.peak_bytes).c_str(), ops,
	       share(tops * 1e12, r.peak_ops).c_str(), share(r.other_us, r.us).c_str());
	fflush(stdout);
	results.push_back(r);
}

void report_us(const char *op, const char *model, const std::string &detail, double us)
{
	report({ op, model, detail, us, 0.0, 0.0, 0.0, 0.0, 0.0 });
}

static void write_json(const char *path, const char *gpu)
{
	const struct peaks &k = machine_peaks();
	FILE *f = fopen(path, "we");

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	fprintf(f,
		"{\"gpu\":\"%s\",\"cublas\":\"%s\",\"peaks\":{\"read_bytes_per_s\":%.6g,"
		"\"copy_bytes_per_s\":%.6g,\"int8_ops_per_s\":%.6g,\"bf16_ops_per_s\":%.6g,"
		"\"f32_ops_per_s\":%.6g},\n\"results\":[",
		gpu, cublas_name() ? cublas_name() : "", k.read, k.copy, k.int8, k.half, k.fma32);
	for (size_t i = 0; i < results.size(); i++) {
		const struct result &r = results[i];

		fprintf(f,
			"%s\n{\"op\":\"%s\",\"model\":\"%s\",\"detail\":\"%s\",\"us\":%.4g,"
			"\"bytes\":%.6g,\"ops\":%.6g,\"peak_bytes_per_s\":%.6g,"
			"\"peak_ops_per_s\":%.6g,\"cublas_us\":%.4g}",
			i ? "," : "", r.op.c_str(), r.model.c_str(), r.detail.c_str(), r.us,
			r.bytes, r.ops, r.peak_bytes, r.peak_ops, r.other_us);
	}
	fprintf(f, "\n]}\n");
	fclose(f);
}

int main(int argc, char **argv)
{
	const char *json = NULL;
	cudaDeviceProp prop;

	for (int i = 1; i < argc; i++) {
		if (i + 1 < argc && !strcmp(argv[i], "--op")) {
			ops_wanted.push_back(argv[++i]);
		} else if (i + 1 < argc && !strcmp(argv[i], "--json")) {
			json = argv[++i];
		} else if (!strcmp(argv[i], "--small")) {
			small = true;
			models = small_models;
		} else {
			fprintf(stderr,
				"usage: bench_gpu [--op NAME]... [--json FILE] [--small]\n");
			return 2;
		}
	}
	must(cudaGetDeviceProperties(&prop, 0), "no GPU");
	const struct peaks &k = machine_peaks();

	printf("%s, %d multiprocessors. Peaks measured here: read %.0f GB/s, "
	       "copy %.0f GB/s (both ways), mma.sync int8 %.0f TOPS, bf16 %.0f TFLOPS, f32 %.1f "
	       "TFLOPS. cuBLAS: %s.\n\n",
	       prop.name, prop.multiProcessorCount, k.read / 1e9, k.copy / 1e9, k.int8 / 1e12,
	       k.half / 1e12, k.fma32 / 1e12, cublas_name() ? cublas_name() : "not found");
	printf("| operation | model | shape | us | GB/s | of read | TOPS | of mma | of cuBLAS |\n");
	printf("|---|---|---|---|---|---|---|---|---|\n");
	bench_products();
	bench_experts();
	bench_attention();
	bench_small();
	bench_layers();
	bench_handoff();
	if (json)
		write_json(json, prop.name);
	return 0;
}
