/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/runtime.cpp: the CUDA runtime as a program sees it: streams, events, graphs, copies, memory.
 *
 * A stream is a queue of closures. Nothing of it runs until somebody waits for it, and then only what is
 * waited for and what that needs: the latest that the rules allow. SLUICE_EMU_SEED=N (0 or none: as just
 * said) lets a random stream go first wherever several can, and now and then runs a closure as soon as it
 * is put in: so different orders of what is not ordered are seen, the same ones for the same number. A copy
 * without waiting reads its source when it runs; its destination holds NaN bytes from the moment when
 * everything before it in the stream is done, which is the earliest that it may be written: who reads
 * without waiting, or overwrites a source too early, gets other bits. The NULL stream runs at once and
 * does not wait for others (tests of single kernels use it); the program's streams are non-blocking.
 *
 * Memory is vmm.cpp's, faults that are wished for and what is counted are faults.cpp's.
 * One lock; any thread.
 */
#include "runtime.h"

#include <cuda_runtime.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

struct CUevent_st {
	uint64_t asked = 0, done = 0; /* records put into streams, and run */
	double at_ms = 0;	      /* of its stream's time, at the last of them */
};

struct emu_op {
	std::function<void()> run;
	std::function<void()> early; /* what may be seen as soon as all before it is done */
	struct CUevent_st *waits = NULL, *records = NULL;
	uint64_t until = 0; /* of @waits */
	bool kernel = false;
};

struct CUgraph_st {
	std::vector<struct emu_op> ops;
};

struct CUgraphExec_st {
	std::vector<struct emu_op> ops;
};

struct CUstream_st {
	std::deque<struct emu_op> queue;
	std::unique_ptr<struct CUgraph_st> capture; /* what is recorded instead of run */
	double ms = 0; /* that its closures took: when they ran says nothing of a device */
};

std::recursive_mutex emu_runtime_lock;
static std::vector<struct CUstream_st *> streams;
static std::map<void *, size_t> device_memory;
static std::map<uintptr_t, size_t> registered; /* memory of the host, by cudaHostRegister() */
static cudaError_t sticky, last_error;
static bool hung; /* nothing runs any more: emu_hangs() has said so */
static uint64_t random_state;

/* ---- what the environment asks for ---- */

struct emu_wish {
	uint64_t seed = 0;

	emu_wish()
	{
		const char *text = getenv("SLUICE_EMU_SEED");

		random_state = seed = text ? strtoull(text, NULL, 10) : 0;
	}
};

static struct emu_wish &wish(void)
{
	static struct emu_wish w;

	return w;
}

/* For tests that try many orders in one process; in place of SLUICE_EMU_SEED. */
void emu_runtime_seed(uint64_t seed)
{
	const std::lock_guard<std::recursive_mutex> guard(emu_runtime_lock);

	wish().seed = random_state = seed;
}

static uint32_t random_below(uint32_t n)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)((z ^ z >> 31) >> 32) % n;
}

static cudaError_t remember(cudaError_t e)
{
	if (e != cudaSuccess && e != cudaErrorNotReady)
		last_error = e;
	return e;
}

cudaError_t emu_runtime_enter(const char *name)
{
	bool stays = false;
	cudaError_t e;

	if (sticky != cudaSuccess)
		return remember(sticky);
	e = emu_fault(name, &stays);
	if (stays)
		sticky = e;
	return remember(e);
}

/* The first registered piece that has some of these bytes. */
static std::map<uintptr_t, size_t>::const_iterator piece_at(const void *p, size_t n)
{
	const uintptr_t at = (uintptr_t)p;
	auto i = registered.upper_bound(at);

	if (i != registered.begin() && std::prev(i)->first + std::prev(i)->second > at)
		return std::prev(i);
	return i != registered.end() && i->first < at + n ? i : registered.end();
}

/* A copy takes memory of one piece, or of none. */
static bool is_cut(const void *p, size_t n)
{
	const auto i = piece_at(p, n);

	return i != registered.end() &&
	       ((uintptr_t)p < i->first || (uintptr_t)p + n > i->first + i->second);
}

static void count_graph(const std::vector<struct emu_op> &ops)
{
	uint64_t n = 0;

	for (const struct emu_op &op : ops)
		n += op.kernel;
	emu_launched.graphs++;
	emu_launched.in_graphs += n;
	if (n > emu_launched.most)
		emu_launched.most = n;
}

#if defined(__SANITIZE_ADDRESS__)
/* Asked at the end: what a lost device or one that hangs has, no call can give back any more. */
extern "C" int __lsan_is_turned_off(void)
{
	return sticky != cudaSuccess || hung;
}

/* What a call that is to fail leaves is no leak of the caller's. */
static void may_stay(const void *object)
{
	__lsan_ignore_object(object);
}
#else
static void may_stay(const void *)
{
}
#endif

#define ENTER(name)                                                          \
	const std::lock_guard<std::recursive_mutex> guard(emu_runtime_lock); \
	const cudaError_t entered = emu_runtime_enter(name);                 \
	if (entered != cudaSuccess)                                          \
	return entered

/* ---- the queues ---- */

static bool can_run(const struct CUstream_st *s)
{
	return !s->queue.empty() &&
	       (!s->queue.front().waits || s->queue.front().waits->done >= s->queue.front().until);
}

/* The first of the queue becomes visible as far as it may. */
static void begin_first(struct CUstream_st *s)
{
	if (!s->queue.empty() && s->queue.front().early) {
		s->queue.front().early();
		s->queue.front().early = NULL;
	}
}

static void run_first(struct CUstream_st *s)
{
	struct emu_op op = std::move(s->queue.front());
	const auto from = std::chrono::steady_clock::now();

	s->queue.pop_front();
	if (op.run)
		op.run();
	s->ms += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - from)
			 .count();
	if (op.records) {
		op.records->done++;
		op.records->at_ms = s->ms;
	}
	begin_first(s);
}

/* One closure of a stream that can go on, @wanted before others without a seed; false: none can. */
static bool run_one(struct CUstream_st *wanted)
{
	std::vector<struct CUstream_st *> ready;

	if (emu_hangs(true)) {
		hung = true;
		return false;
	}
	for (struct CUstream_st *s : streams)
		if (can_run(s))
			ready.push_back(s);
	if (ready.empty())
		return false;
	if (wish().seed)
		run_first(ready[random_below((uint32_t)ready.size())]);
	else
		run_first(wanted && can_run(wanted) ? wanted : ready[0]);
	return true;
}

/* A wait that nothing can end: of a device that hangs for ever, else a fault of the program's. */
static void stand_still(void)
{
	while (emu_hangs(false))
		sleep(1);
	emu_fail("stream", "waits for an event that nobody records");
}

static void run_until_empty(struct CUstream_st *s)
{
	while (!s->queue.empty())
		if (!run_one(s))
			stand_still();
}

/* Now and then, with a seed: what could run already does. */
static void maybe_run(void)
{
	while (wish().seed && random_below(4) == 0)
		if (!run_one(NULL))
			return;
}

static void put(struct CUstream_st *s, struct emu_op op)
{
	if (s->capture) {
		s->capture->ops.push_back(std::move(op));
		return;
	}
	s->queue.push_back(std::move(op));
	if (s->queue.size() == 1)
		begin_first(s);
	maybe_run();
}

int emu_enqueue(void *stream, std::function<void()> run, bool launch)
{
	if (launch) {
		ENTER("cudaLaunchKernelExC");
	}
	if (!stream) {
		run();
		return cudaSuccess;
	}
	const std::lock_guard<std::recursive_mutex> guard(emu_runtime_lock);
	struct emu_op op;

	op.run = std::move(run);
	op.kernel = launch;
	emu_launched.alone += launch && !((struct CUstream_st *)stream)->capture;
	put((struct CUstream_st *)stream, std::move(op));
	return cudaSuccess;
}

/* ---- errors ---- */

static const struct {
	cudaError_t number;
	const char *name, *text;
} errors[] = {
	{ cudaSuccess, "cudaSuccess", "no error" },
	{ cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument" },
	{ cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory" },
	{ cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
	  "invalid configuration argument" },
	{ cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal" },
	{ cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
	  "an illegal memory access was encountered" },
	{ cudaErrorUnknown, "cudaErrorUnknown", "unknown error" },
};

const char *cudaGetErrorString(cudaError_t e)
{
	for (const auto &x : errors)
		if (x.number == e)
			return x.text;
	return "an error of the shim";
}

const char *cudaGetErrorName(cudaError_t e)
{
	for (const auto &x : errors)
		if (x.number == e)
			return x.name;
	return "an error of the shim";
}

cudaError_t cudaGetLastError(void)
{
	const std::lock_guard<std::recursive_mutex> guard(emu_runtime_lock);
	const cudaError_t e = last_error;

	last_error = sticky;
	return e;
}

cudaError_t cudaPeekAtLastError(void)
{
	return last_error;
}

/* ---- the device ---- */

cudaError_t cudaDriverGetVersion(int *version)
{
	ENTER("cudaDriverGetVersion");
	*version = 13000;
	return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *n)
{
	ENTER("cudaGetDeviceCount");
	*n = 1;
	return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
	ENTER("cudaSetDevice");
	return device ? remember(cudaErrorInvalidDevice) : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
	ENTER("cudaGetDeviceProperties");
	/* at the PCI address where tests/unit/telemetry/fake_nvml.c has a GPU */
	*p = cudaDeviceProp{ "the shim (no GPU)", 8, 0, 1, 0, 232448, 0, 0x81, 0 };
	p->totalGlobalMem = emu_memory_all();
	return device ? remember(cudaErrorInvalidDevice) : cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
	ENTER("cudaDeviceSynchronize");
	while (run_one(NULL))
		;
	return cudaSuccess;
}

/* ---- memory ---- */

/* Exactly @n bytes, aligned as on a device, of a pattern that is NaN as floats. */
static cudaError_t take(void **p, size_t n)
{
	if (posix_memalign(p, 256, n ? n : 1))
		return remember(cudaErrorMemoryAllocation);
	memset(*p, 0xff, n);
	return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t n)
{
	ENTER("cudaMalloc");
	if (!emu_memory_take(n))
		return remember(cudaErrorMemoryAllocation);
	const cudaError_t e = take(p, n);

	if (e == cudaSuccess)
		device_memory[*p] = n;
	else
		emu_memory_give(n);
	return e;
}

cudaError_t cudaFree(void *p)
{
	ENTER("cudaFree");
	while (run_one(NULL)) /* it waits for the device */
		;
	if (!p)
		return cudaSuccess;
	if (!device_memory.count(p))
		emu_fail("memory", "cudaFree of what cudaMalloc did not give");
	emu_memory_give(device_memory[p]);
	device_memory.erase(p);
	free(p);
	return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **p, size_t n, unsigned)
{
	ENTER("cudaHostAlloc");
	return take(p, n);
}

cudaError_t cudaMallocHost(void **p, size_t n)
{
	ENTER("cudaMallocHost");
	return take(p, n);
}

cudaError_t cudaFreeHost(void *p)
{
	ENTER("cudaFreeHost");
	while (run_one(NULL))
		;
	free(p);
	return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **ret, void *host, unsigned)
{
	ENTER("cudaHostGetDevicePointer");
	*ret = host;
	return cudaSuccess;
}

cudaError_t cudaHostRegister(void *p, size_t n, unsigned)
{
	ENTER("cudaHostRegister");
	if (!p || !n)
		return remember(cudaErrorInvalidValue);
	if (piece_at(p, n) != registered.end())
		return remember(cudaErrorHostMemoryAlreadyRegistered);
	registered[(uintptr_t)p] = n;
	return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
	ENTER("cudaHostUnregister");
	return registered.erase((uintptr_t)p) ? cudaSuccess
					      : remember(cudaErrorHostMemoryNotRegistered);
}

/* ---- copies ---- */

cudaError_t cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind)
{
	ENTER("cudaMemcpy");
	if (n)
		memcpy(to, from, n);
	return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind,
			    cudaStream_t s)
{
	if (!s)
		return cudaMemcpy(to, from, n, kind);
	ENTER("cudaMemcpyAsync");
	struct emu_op op;

	if (!n)
		return cudaSuccess;
	if (is_cut(kind == cudaMemcpyHostToDevice ? from : to, n))
		return remember(cudaErrorInvalidValue);
	op.early = [=] { memset(to, 0xff, n); };
	op.run = [=] { memcpy(to, from, n); };
	put(s, std::move(op));
	return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t n)
{
	ENTER("cudaMemset");
	if (n)
		memset(to, value, n);
	return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t s)
{
	if (!s)
		return cudaMemset(to, value, n);
	ENTER("cudaMemsetAsync");
	struct emu_op op;

	op.run = [=] { memset(to, value, n); };
	if (n)
		put(s, std::move(op));
	return cudaSuccess;
}

/* ---- streams and events ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
	ENTER("cudaStreamCreateWithFlags");
	*s = new struct CUstream_st;
	streams.push_back(*s);
	return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
	return cudaStreamCreateWithFlags(s, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
	ENTER("cudaStreamDestroy");
	if (!s)
		return cudaSuccess;
	run_until_empty(s);
	for (size_t i = 0; i < streams.size(); i++)
		if (streams[i] == s)
			streams.erase(streams.begin() + (long)i);
	delete s;
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
	ENTER("cudaStreamSynchronize");
	if (s)
		run_until_empty(s);
	return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
	ENTER("cudaStreamQuery");
	if (s && !s->queue.empty())
		run_one(s); /* time goes by */
	return s && !s->queue.empty() ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
	ENTER("cudaStreamWaitEvent");
	struct emu_op op;

	op.waits = e;
	op.until = e->asked;
	if (s)
		put(s, std::move(op));
	return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
	ENTER("cudaEventCreateWithFlags");
	*e = new struct CUevent_st;
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
	return cudaEventCreateWithFlags(e, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
	ENTER("cudaEventDestroy");
	while (e && e->done < e->asked)
		if (!run_one(NULL))
			break;
	delete e;
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
	ENTER("cudaEventRecord");
	struct emu_op op;

	e->asked++;
	if (!s) {
		e->done = e->asked;
		return cudaSuccess;
	}
	op.records = e;
	put(s, std::move(op));
	return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
	ENTER("cudaEventQuery");
	if (e->done < e->asked)
		run_one(NULL);
	return e->done < e->asked ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
	ENTER("cudaEventSynchronize");
	while (e->done < e->asked)
		if (!run_one(NULL))
			stand_still();
	return cudaSuccess;
}

/* Of two of one stream. */
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
	ENTER("cudaEventElapsedTime");
	if (from->done < from->asked || to->done < to->asked)
		return cudaErrorNotReady;
	*ms = (float)(to->at_ms - from->at_ms);
	return cudaSuccess;
}

/* ---- graphs: recorded lists ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
	ENTER("cudaStreamBeginCapture");
	if (!s || s->capture)
		return remember(cudaErrorInvalidValue);
	s->capture.reset(new struct CUgraph_st);
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *ret)
{
	const std::lock_guard<std::recursive_mutex> guard(emu_runtime_lock);
	const cudaError_t entered = emu_runtime_enter("cudaStreamEndCapture");

	if (entered != cudaSuccess) {
		if (s)
			s->capture.reset(); /* it ends, also where it cannot be had */
		return entered;
	}
	if (!s || !s->capture)
		return remember(cudaErrorInvalidValue);
	*ret = s->capture.release();
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t g, unsigned long long)
{
	ENTER("cudaGraphInstantiate");
	*ret = new CUgraphExec_st{ g->ops };
	return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s)
{
	ENTER("cudaGraphLaunch");
	if (!s)
		return remember(cudaErrorInvalidValue);
	count_graph(g->ops);
	for (const struct emu_op &op : g->ops)
		put(s, op);
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g)
{
	ENTER("cudaGraphExecDestroy");
	delete g;
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
	may_stay(g);
	ENTER("cudaGraphDestroy");
	delete g;
	return cudaSuccess;
}
