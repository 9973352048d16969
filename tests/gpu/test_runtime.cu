/* SPDX-License-Identifier: MIT */
/*
 * Description: what a program may rely on of streams, events, graphs and copies, in every order that the
 * fake runtime makes of it; and that without waiting it may not.
 *
 * Holds on a GPU too, but for the last part, which asks the shim alone for what real time only does by chance.
 */
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "tests/gpu/values.h"

static __global__ void add_kernel(float *x, size_t n, float by)
{
	const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;

	if (i < n)
		x[i] += by;
}

#define N 300

static void add(cudaStream_t s, float *x, float by)
{
	CUDA_LAUNCH(add_kernel, 2, 256, 0, s, x, (size_t)N, by);
	check_equal("launch", 0, CUDA_LAUNCHED(), 0);
}

struct two_streams {
	cudaStream_t a, b;
	cudaEvent_t e;
	float *host, *back;

	two_streams()
	{
		values_cuda(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking), "stream");
		values_cuda(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking), "stream");
		values_cuda(cudaEventCreateWithFlags(&e, cudaEventDisableTiming), "event");
		values_cuda(cudaMallocHost((void **)&host, N * 4), "host memory");
		values_cuda(cudaMallocHost((void **)&back, N * 4), "host memory");
	}
	~two_streams()
	{
		cudaEventDestroy(e);
		cudaStreamDestroy(a);
		cudaStreamDestroy(b);
		cudaFreeHost(host);
		cudaFreeHost(back);
	}
	void fill(float v)
	{
		for (size_t i = 0; i < N; i++)
			host[i] = v;
	}
	void all(const char *what, float v) const
	{
		for (size_t i = 0; i < N; i++)
			check_equal(what, i, (long long)back[i], (long long)v);
	}
};

/* One stream keeps its order; another waits for an event of it. */
static void check_order(void)
{
	struct two_streams t;
	device_array<float> x(N);

	for (int round = 0; round < 20; round++) {
		t.fill(1.0f);
		values_cuda(cudaMemcpyAsync(x.p, t.host, N * 4, cudaMemcpyHostToDevice, t.a),
			    "copy");
		add(t.a, x.p, 2.0f);
		values_cuda(cudaEventRecord(t.e, t.a), "record");
		values_cuda(cudaStreamWaitEvent(t.b, t.e, 0), "wait");
		add(t.b, x.p, 4.0f);
		values_cuda(cudaMemcpyAsync(t.back, x.p, N * 4, cudaMemcpyDeviceToHost, t.b),
			    "copy");
		values_cuda(cudaStreamSynchronize(t.b), "sync");
		t.all("order", 7.0f);
	}
	check_equal("query", 0, cudaStreamQuery(t.a), cudaSuccess);
	check_equal("query", 0, cudaEventQuery(t.e), cudaSuccess);
}

/* A recorded list runs as often as it is launched, on what lies there then. */
static void check_graph(void)
{
	struct two_streams t;
	device_array<float> x(N);
	cudaGraph_t g;
	cudaGraphExec_t exec;

	values_cuda(cudaStreamBeginCapture(t.a, cudaStreamCaptureModeThreadLocal), "capture");
	add(t.a, x.p, 1.0f);
	add(t.a, x.p, 2.0f);
	values_cuda(cudaStreamEndCapture(t.a, &g), "capture");
	values_cuda(cudaGraphInstantiate(&exec, g, 0), "graph");
	values_cuda(cudaMemsetAsync(x.p, 0, N * 4, t.a), "memset");
	for (int i = 0; i < 3; i++)
		values_cuda(cudaGraphLaunch(exec, t.a), "graph");
	values_cuda(cudaMemcpyAsync(t.back, x.p, N * 4, cudaMemcpyDeviceToHost, t.a), "copy");
	values_cuda(cudaStreamSynchronize(t.a), "sync");
	t.all("graph", 9.0f);
	cudaGraphExecDestroy(exec);
	cudaGraphDestroy(g);
}

#ifndef __CUDACC__
/* Faults that real time shows only by chance: each must show here. */
static void check_faults(void)
{
	struct two_streams t;
	device_array<float> x(N);

	/* the source is overwritten before anybody waited: the copy reads late */
	t.fill(1.0f);
	values_cuda(cudaMemcpyAsync(x.p, t.host, N * 4, cudaMemcpyHostToDevice, t.a), "copy");
	t.fill(5.0f);
	values_cuda(cudaMemcpyAsync(t.back, x.p, N * 4, cudaMemcpyDeviceToHost, t.a), "copy");
	values_cuda(cudaStreamSynchronize(t.a), "sync");
	if (!getenv("SLUICE_EMU_SEED"))
		t.all("late read", 5.0f);
	/* the result is read before anybody waited: the copy has written, but not its data */
	t.back[0] = 1.0f;
	values_cuda(cudaMemcpyAsync(t.back, x.p, N * 4, cudaMemcpyDeviceToHost, t.a), "copy");
	if (!getenv("SLUICE_EMU_SEED"))
		check_equal("early write", 0, isnan(t.back[0]), 1);
	values_cuda(cudaStreamSynchronize(t.a), "sync");
	t.all("waited", 5.0f);
}

/* Memory of the host that is registered in two pieces: a copy takes some of one. */
static void check_registered(void)
{
	struct two_streams t;
	device_array<float> x(N);
	float *own = (float *)malloc(N * 4);
	const size_t half = N / 2 * 4;

	values_cuda(cudaHostRegister(own, half, 0), "register");
	check_equal("registered twice", 0, cudaHostRegister(own + 1, half, 0),
		    cudaErrorHostMemoryAlreadyRegistered);
	values_cuda(cudaHostRegister(own + N / 2, half, 0), "register");
	check_equal("across pieces", 0,
		    cudaMemcpyAsync(x.p, own, 2 * half, cudaMemcpyHostToDevice, t.a),
		    cudaErrorInvalidValue);
	for (int i = 0; i < 2; i++)
		values_cuda(cudaMemcpyAsync(x.p + i * (N / 2), own + i * (N / 2), half,
					    cudaMemcpyHostToDevice, t.a),
			    "copy");
	values_cuda(cudaStreamSynchronize(t.a), "sync");
	values_cuda(cudaHostUnregister(own), "unregister");
	check_equal("unregistered twice", 0, cudaHostUnregister(own),
		    cudaErrorHostMemoryNotRegistered);
	check_equal("half of it registered", 0,
		    cudaMemcpyAsync(x.p, own, 2 * half, cudaMemcpyHostToDevice, t.a),
		    cudaErrorInvalidValue);
	values_cuda(cudaHostUnregister(own + N / 2), "unregister");
	values_cuda(cudaMemcpyAsync(x.p, own, 2 * half, cudaMemcpyHostToDevice, t.a), "copy");
	values_cuda(cudaStreamSynchronize(t.a), "sync");
	cudaGetLastError();
	free(own);
}
#else
static void check_faults(void)
{
}

static void check_registered(void)
{
}
#endif

int main(void)
{
	check_order();
	check_graph();
	check_faults();
	check_registered();
	check_equal("count", 0, cuda_launches() >= 42, 1);
	return values_report("runtime");
}
