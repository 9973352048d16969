/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/gpu/handoff.cu: what lies between the device and the host in a layer: from a graph's launch to the
 * word that the host sees, reads of the host's rows, copies from the host's registered memory, and whether what
 * comes before a word or a launch is really there.
 *
 * Times are medians of the host's monotonic clock. The litmus ends the program with status 1 at the first value
 * that is stale. Under the shim nothing is timed that means anything, but every wait and every order is seen.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "tests/bench/gpu/layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define POLLS_A_QUERY 256 /* of the word between two questions to the stream */
#define LITMUS_VALUES 4096
#define PIECE	      ((size_t)7 << 20) /* about an expert of the 397B */

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static double median(std::vector<double> &v)
{
	std::sort(v.begin(), v.end());
	return v[v.size() / 2];
}

static int rounds(int n)
{
	return is_small() ? 2 : n;
}

static cudaStream_t new_stream(void)
{
	cudaStream_t s;

	must(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking), "cudaStreamCreate");
	return s;
}

/* As the engine does: the word, and now and then the stream, which says if it failed. */
static void wait_word(const uint32_t *word, uint32_t value, cudaStream_t s)
{
	for (unsigned i = 1; __atomic_load_n(word, __ATOMIC_ACQUIRE) != value; i++) {
		cudaError_t e;

		if (i % POLLS_A_QUERY)
			continue;
		e = cudaStreamQuery(s);
		if (e != cudaSuccess && e != cudaErrorNotReady)
			must(e, "the stream");
		if (e == cudaSuccess && __atomic_load_n(word, __ATOMIC_ACQUIRE) != value) {
			fprintf(stderr, "the stream is done and its word has not come\n");
			exit(1);
		}
	}
}

/* The publish alone: from the launch of its graph to its word, and to the stream's end. */
static void doorbell(const struct model &m)
{
	struct layer_rig rig(m, 1, 0, sized(4096));
	cudaStream_t s = new_stream();
	struct cuda_publish p = {};
	uint32_t *ids = (uint32_t *)device_bytes(m.used * 4);
	std::vector<double> seen, done, launched;

	must(cudaMemset(ids, 0, m.used * 4), "cudaMemset");
	p.ids = ids;
	p.weights = random_floats(rig.ranks);
	p.x = random_floats(m.d);
	p.tokens = 1;
	p.d = m.d;
	p.k = (unsigned)m.used;
	p.ranks = (unsigned)rig.ranks;
	p.to_ids = rig.to_ids;
	p.to_weights = rig.to_weights;
	p.to_x = rig.to_x;
	p.word = rig.word;
	p.value = 1;
	cudaGraphExec_t g = record([&](cuda_stream t) { return cuda_publish(t, &p); });

	for (int i = 0; i < rounds(2000); i++) {
		const double begin = now_us();
		double after;

		__atomic_store_n(rig.word, 0, __ATOMIC_RELAXED);
		must(cudaGraphLaunch(g, s), "cudaGraphLaunch");
		after = now_us();
		wait_word(rig.word, 1, s);
		seen.push_back(now_us() - begin);
		launched.push_back(after - begin);
		must(cudaStreamSynchronize(s), "a graph");
		done.push_back(now_us() - begin);
	}
	report_us("graph_launch", m.name, "the host's call", median(launched));
	report_us("doorbell", m.name, "launch to word, publish of one token", median(seen));
	report_us("graph_end", m.name, "launch to the stream's end", median(done));
	cudaGraphExecDestroy(g);
	cudaStreamDestroy(s);
	release_all();
}

/*
 * Layers one after the other with the host between them, which has its rows at once, against the same layers
 * launched without looking: what is left is the hand-off.
 */
static void layers(const struct model &m, unsigned resident)
{
	const int n = is_small() ? 2 : 8;
	struct layer_rig rig(m, n, resident, sized(4096));
	cudaStream_t s = new_stream();
	std::vector<cudaGraphExec_t> graphs;
	std::vector<double> with, without;
	char detail[96];

	for (int i = 0; i < n; i++)
		graphs.push_back(record(
			[&](cuda_stream t) { return rig.put(t, i, m.k_heads && i % 4 != 3); }));
	for (int round = 0; round < rounds(200); round++) {
		double begin = now_us();

		for (int i = 0; i < n; i++)
			must(cudaGraphLaunch(graphs[i], s), "cudaGraphLaunch");
		must(cudaStreamSynchronize(s), "layers");
		without.push_back((now_us() - begin) / n);
		begin = now_us();
		for (int i = 0; i < n; i++) {
			__atomic_store_n(rig.word + 16 * i, 0, __ATOMIC_RELAXED);
			must(cudaGraphLaunch(graphs[i], s), "cudaGraphLaunch");
			wait_word(rig.word + 16 * i, 1, s);
		}
		must(cudaStreamSynchronize(s), "layers");
		with.push_back((now_us() - begin) / n);
	}
	const double a = median(with), b = median(without);

	snprintf(detail, sizeof(detail), "%u %% resident, layer %.1f us with, %.1f without it",
		 resident, a, b);
	report_us("handoff", m.name, detail, a - b);
	for (cudaGraphExec_t g : graphs)
		cudaGraphExecDestroy(g);
	cudaStreamDestroy(s);
	release_all();
}

/* The reduction with all rows in the host's memory against all in the device's. */
static void mapped_read(const struct model &m)
{
	const unsigned k = (unsigned)m.used + 1;
	float *far = (float *)mapped_bytes(k * m.d * 4), *near = random_floats(k * m.d);
	float *x = random_floats(m.d), *w = random_floats(m.d), *out = random_floats(m.d);
	float *weights = random_floats(k);
	std::vector<uint32_t> place(2 * k);
	double us[2];

	for (unsigned i = 0; i < k; i++) {
		place[i] = i;
		place[k + i] = i + CUDA_MAPPED;
	}
	uint32_t *at = device_copy(place);

	for (int far_side = 0; far_side < 2; far_side++)
		us[far_side] = time_launches(16, [&](cuda_stream s, int) {
			const struct cuda_expert_sum sum = { near, far, at + far_side * k, weights,
							     k };

			return cuda_expert_reduce_norm(s, &sum, x, w, m.d, 1, 1e-6f, out,
						       { CUDA_IN_NONE, NULL });
		});
	report_us("reduce_norm", m.name, "rows of the device", us[0]);
	report({ "reduce_norm", m.name, "rows of the host", us[1], 4.0 * k * m.d, 0.0, 0.0, 0.0,
		 0.0 });
	release_all();
}

static __global__ void litmus_write(float *x, uint32_t *word, const uint32_t *round)
{
	for (unsigned i = threadIdx.x; i < LITMUS_VALUES; i += blockDim.x)
		x[i] = (float)*round;
	__syncthreads();
	if (threadIdx.x == 0)
		ptx_release_system(word, *round);
}

/* How many of the host's values are not @round's */
static __global__ void litmus_read(const float *x, const uint32_t *round, uint32_t *wrong)
{
	for (unsigned i = threadIdx.x; i < LITMUS_VALUES; i += blockDim.x)
		if (x[i] != (float)*round)
			atomicAdd(wrong, 1u);
}

/* What the device wrote before its word is seen after it; what the host wrote before a launch is read by it. */
static void litmus(void)
{
	const int n = is_small() ? 20 : 100000;
	float *out = (float *)mapped_bytes(LITMUS_VALUES * 4);
	float *in = (float *)mapped_bytes(LITMUS_VALUES * 4);
	uint32_t *word = (uint32_t *)mapped_bytes(4), *round = (uint32_t *)mapped_bytes(4);
	uint32_t *wrong = device_copy(std::vector<uint32_t>(1, 0)), stale = 0;
	cudaStream_t s = new_stream();
	cudaGraphExec_t g = record([&](cuda_stream t) {
		CUDA_LAUNCH(litmus_read, 1, 256, 0, t, in, round, wrong);
		CUDA_LAUNCH(litmus_write, 1, 1024, 0, t, out, word, round);
		return CUDA_LAUNCHED();
	});

	for (int i = 1; i <= n; i++) {
		*round = (uint32_t)(i & 0xffff);
		for (int k = 0; k < LITMUS_VALUES; k++)
			in[k] = (float)*round;
		must(cudaGraphLaunch(g, s), "cudaGraphLaunch");
		wait_word(word, *round, s);
		for (int k = 0; k < LITMUS_VALUES; k++)
			stale += out[k] != (float)*round;
	}
	must(cudaStreamSynchronize(s), "litmus");
	uint32_t read_stale;

	must(cudaMemcpy(&read_stale, wrong, 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
	printf("litmus: %d rounds, %u values stale on the host, %u on the device\n", n, stale,
	       read_stale);
	if (stale || read_stale)
		exit(1);
	cudaGraphExecDestroy(g);
	cudaStreamDestroy(s);
	release_all();
}

/* Seconds of copying @bytes in pieces from @from. */
static double copy_seconds(const uint8_t *from, uint8_t *to, size_t bytes, size_t piece)
{
	cudaStream_t s = new_stream();
	double begin, seconds;

	must(cudaMemcpyAsync(to, from, piece, cudaMemcpyHostToDevice, s), "a copy");
	must(cudaStreamSynchronize(s), "a copy");
	begin = now_us();
	for (size_t at = 0; at + piece <= bytes; at += piece)
		must(cudaMemcpyAsync(to + at, from + at, piece, cudaMemcpyHostToDevice, s),
		     "a copy");
	must(cudaStreamSynchronize(s), "a copy");
	seconds = (now_us() - begin) * 1e-6;
	cudaStreamDestroy(s);
	return seconds;
}

/* From the arena's memory (huge pages of the host, registered) and from the runtime's own. */
static void link_rate(void)
{
	const size_t bytes = is_small() ? (size_t)4 << 20 : (size_t)1 << 30;
	const size_t piece = is_small() ? (size_t)1 << 20 : PIECE;
	uint8_t *to = (uint8_t *)device_bytes(bytes), *own;
	void *arena = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	const bool huge = arena != MAP_FAILED;
	double of_own = 1e30, of_arena = 1e30;
	char detail[96];

	if (!huge) {
		arena = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0);
		if (arena == MAP_FAILED) {
			fprintf(stderr, "no memory for the arena\n");
			exit(1);
		}
		madvise(arena, bytes, MADV_HUGEPAGE);
	}
	memset(arena, 1, bytes);
	must(cudaMallocHost((void **)&own, bytes), "cudaMallocHost");
	memset(own, 1, bytes);
	must(cudaHostRegister(arena, bytes, cudaHostRegisterPortable), "cudaHostRegister");
	for (int i = 0; i < rounds(5); i++) { /* A-B, the best of each */
		of_own = std::min(of_own, copy_seconds(own, to, bytes, bytes));
		of_arena = std::min(of_arena, copy_seconds((uint8_t *)arena, to, bytes, piece));
	}
	const double moved = (double)(bytes / piece * piece);

	snprintf(detail, sizeof(detail),
		 "%zu KiB pieces of %s, %.0f %% of the runtime's own memory", piece >> 10,
		 huge ? "hugetlb pages" : "transparent huge pages (no hugetlb here)",
		 100.0 * (moved / of_arena) / ((double)bytes / of_own));
	report({ "link", "-", detail, of_arena * 1e6, moved, 0.0, (double)bytes / of_own, 0.0,
		 0.0 });
	cudaHostUnregister(arena);
	munmap(arena, bytes);
	cudaFreeHost(own);
	release_all();
}

void bench_handoff(void)
{
	if (wanted("litmus"))
		litmus();
	if (wanted("link"))
		link_rate();
	for (const struct model &m : models) {
		if (!m.experts || !wanted("handoff"))
			continue;
		doorbell(m);
		mapped_read(m);
		for (unsigned resident : residencies())
			layers(m, resident);
	}
}
