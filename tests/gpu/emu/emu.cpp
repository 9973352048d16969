/* SPDX-License-Identifier: MIT */
/*
 * tests/gpu/emu/emu.cpp: runs launches: workers take blocks, a block's threads are fibers.
 *
 * Within a block one fiber runs until it must wait, then the next that can; the order is that of
 * the thread numbers, always the same. When nobody can run and somebody waits, the block can never
 * end: what they wait for tells which rule was broken. x86-64 only (one switch of stacks).
 */
#include "block.h"
#include "runtime.h"

#include <atomic>
#include <condition_variable>
#include <math.h>
#include <mutex>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMU_ASAN 1
#else
#define EMU_ASAN 0
#endif

/* ThreadSanitizer is told which fiber runs: the kernels' accesses are then seen as one of the daemon's threads. */
#if defined(SLUICE_EMU_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

#define STACK (256 * 1024)

__thread struct emu_self *emu_now;
__thread struct emu_worker *emu_worker;

void emu_fail(const char *kind, const char *format, ...)
{
	const struct emu_worker *w = emu_worker;
	char text[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fflush(stdout);
	if (emu_now)
		fprintf(stderr,
			"sluice-emu: %s: kernel %s block (%u,%u,%u) thread (%u,%u,%u): %s\n", kind,
			w->launch->kernel, emu_now->block.x, emu_now->block.y, emu_now->block.z,
			emu_now->thread.x, emu_now->thread.y, emu_now->thread.z, text);
	else
		fprintf(stderr, "sluice-emu: %s: %s\n", kind, text);
	_exit(1);
}

/* The race flavour has its own. */
#define EMU_WEAK __attribute__((weak))
EMU_WEAK void emu_shadow_block(struct emu_worker *)
{
}
EMU_WEAK void emu_shadow_barrier(struct emu_worker *)
{
}
EMU_WEAK void emu_shadow_syncwarp(struct emu_worker *, unsigned, uint32_t)
{
}
EMU_WEAK void emu_shadow_free(struct emu_worker *)
{
}
EMU_WEAK void emu_shadow_access(struct emu_worker *, struct emu_fiber *, const void *, size_t,
				enum emu_access, const void *)
{
}

void emu_reads(unsigned lane, const void *at, size_t bytes)
{
	struct emu_worker *w = emu_worker;

	emu_shadow_access(w, &w->fiber[w->now->self.index / EMU_WARP * EMU_WARP + lane], at, bytes,
			  EMU_READ, __builtin_return_address(0));
}

/* ---- fibers ---- */

extern "C" void emu_switch(void **save, void *to);
__asm__(".text\n.globl emu_switch\n.type emu_switch,@function\nemu_switch:\n"
	"push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
	"mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
	"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
	".size emu_switch,.-emu_switch\n");

static uint8_t *stack_of(struct emu_worker *w, unsigned i)
{
	return w->stacks + (size_t)i * STACK;
}

#if defined(SLUICE_EMU_TSAN)
/*
 * A block is one fiber of ThreadSanitizer's, its first: threads of a block take turns, so nothing between them could be a
 * race, and to tell of each turn costs a clock with an entry for each of a thousand threads, which is most of the time. Stacks
 * of kernels in its reports have frames of other threads among their own for that; SLUICE_EMU_FIBERS=1 tells of each turn.
 */
static void tell_tsan(struct emu_worker *w, const struct emu_fiber *from, struct emu_fiber *to)
{
	static const bool each = getenv("SLUICE_EMU_FIBERS") != NULL;
	struct emu_fiber *const seen = each || !to ? to : &w->fiber[0];

	if (from && to && !each)
		return;
	if (seen && !seen->fake)
		seen->fake = __tsan_create_fiber(0);
	if (!from)
		w->fake = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(seen ? seen->fake : w->fake, 0);
}
#endif

/* From the fiber that runs (NULL: the worker itself) to another. */
static void go(struct emu_worker *w, struct emu_fiber *from, struct emu_fiber *to, bool last)
{
	void **save = from ? &from->sp : &w->sp;
	void *target = to ? to->sp : w->sp;

	w->now = to;
	emu_now = to ? &to->self : NULL;
#if EMU_ASAN
	__sanitizer_start_switch_fiber(last   ? NULL
				       : from ? &from->fake
					      : &w->fake,
				       to ? stack_of(w, to->self.index) : w->bottom,
				       to ? STACK : w->size);
	emu_switch(save, target);
	__sanitizer_finish_switch_fiber(from ? from->fake : w->fake, NULL, NULL);
#elif defined(SLUICE_EMU_TSAN)
	(void)last;
	tell_tsan(w, from, to);
	emu_switch(save, target);
#else
	(void)last;
	emu_switch(save, target);
#endif
}

static void can_run(struct emu_worker *w, struct emu_fiber *f)
{
	const unsigned warp = f->self.index / EMU_WARP;

	f->state = EMU_READY;
	w->ready[warp] |= 1u << f->self.lane;
	w->ready_warps |= 1u << warp;
}

static void cannot_run(struct emu_worker *w, struct emu_fiber *f)
{
	const unsigned warp = f->self.index / EMU_WARP;

	w->ready[warp] &= ~(1u << f->self.lane);
	if (!w->ready[warp])
		w->ready_warps &= ~(1u << warp);
}

static const char *state_text(const struct emu_fiber *f, char *text, size_t size)
{
	if (f->state == EMU_DONE)
		return "has ended";
	if (f->state == EMU_AT_WARP)
		snprintf(text, size, "waits at %s (mask %08x), %s:%d", f->what, f->mask, f->file,
			 f->line);
	else
		snprintf(text, size, "waits at %s, %s:%d", f->what, f->file, f->line);
	return text;
}

/* Nobody can run: the first that waits, and the first that keeps it waiting */
static void stuck(struct emu_worker *w)
{
	char mine[512], theirs[512];

	for (unsigned i = 0; i < w->threads; i++) {
		const struct emu_fiber *f = &w->fiber[i];

		if (f->state != EMU_AT_WARP)
			continue;
		emu_now = &w->fiber[i].self;
		for (unsigned lane = 0; lane < EMU_WARP; lane++) {
			const unsigned o = i / EMU_WARP * EMU_WARP + lane;
			const struct emu_fiber *other = &w->fiber[o];

			if (!(f->mask >> lane & 1))
				continue;
			if (o >= w->threads)
				emu_fail("warp mask", "%s, but the block has no lane %u there",
					 state_text(f, mine, sizeof(mine)), lane);
			if (other->state != EMU_AT_WARP || other->mask != f->mask ||
			    other->line != f->line || strcmp(other->what, f->what))
				emu_fail("warp mask", "%s, but lane %u, named by the mask, %s",
					 state_text(f, mine, sizeof(mine)), lane,
					 state_text(other, theirs, sizeof(theirs)));
		}
	}
	for (unsigned i = 0; i < w->threads; i++) {
		const struct emu_fiber *f = &w->fiber[i];

		if (f->state != EMU_AT_BLOCK)
			continue;
		emu_now = &w->fiber[i].self;
		for (unsigned o = 0; o < w->threads; o++) {
			const struct emu_fiber *other = &w->fiber[o];

			if (other->state != EMU_AT_BLOCK || other->line != f->line ||
			    strcmp(other->file, f->file))
				emu_fail("divergent barrier", "%s, but thread (%u,%u,%u) %s",
					 state_text(f, mine, sizeof(mine)), other->self.thread.x,
					 other->self.thread.y, other->self.thread.z,
					 state_text(other, theirs, sizeof(theirs)));
		}
	}
	emu_fail("deadlock", "no thread can run");
}

/* The running fiber stops here (its state is set already) until somebody lets it run. */
static void stop(struct emu_worker *w, struct emu_fiber *f, bool last)
{
	const unsigned warp = f->self.index / EMU_WARP;
	unsigned next = warp;

	if (!w->ready_warps) {
		if (w->done < w->threads)
			stuck(w);
		go(w, f, NULL, last);
		return;
	}
	if (!w->ready[warp])
		next = (unsigned)__builtin_ctz(w->ready_warps);
	go(w, f, &w->fiber[next * EMU_WARP + (unsigned)__builtin_ctz(w->ready[next])], last);
}

__attribute__((noinline)) static void fiber_body(struct emu_worker *w, struct emu_fiber *f)
{
	w->launch->body(w->launch->arg);
	emu_copy_commit();
	emu_copy_wait(0);
	f->state = EMU_DONE;
	w->done++;
	cannot_run(w, f);
}

/* Never returns; its own frame is never checked, since the stack is used again as it is. */
__attribute__((no_sanitize("address"))) static void fiber_start(void)
{
	struct emu_worker *w = emu_worker;
	struct emu_fiber *f = w->now;

#if EMU_ASAN
	__sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
	fiber_body(w, f);
	stop(w, f, true);
	abort();
}

/* ---- waiting ---- */

unsigned emu_barrier(bool vote, const char *what, const char *file, int line)
{
	struct emu_worker *w = emu_worker;
	struct emu_fiber *f = w->now;
	unsigned votes = 0, same = 0;

	f->what = what;
	f->file = file;
	f->line = line;
	f->vote = vote;
	f->state = EMU_AT_BLOCK;
	cannot_run(w, f);
	if (++w->at_block < w->threads) {
		stop(w, f, false);
		return f->votes;
	}
	for (unsigned i = 0; i < w->threads; i++) {
		const struct emu_fiber *o = &w->fiber[i];

		votes += o->vote;
		same += o->line == line && (o->file == file || !strcmp(o->file, file));
	}
	if (same < w->threads)
		stuck(w);
	emu_shadow_barrier(w);
	w->at_block = 0;
	for (unsigned i = 0; i < w->threads; i++) {
		w->fiber[i].votes = votes;
		can_run(w, &w->fiber[i]);
	}
	return votes;
}

void emu_collective(uint32_t mask, void *arg, emu_finish *finish, bool sync, const char *what,
		    const char *file, int line)
{
	struct emu_worker *w = emu_worker;
	struct emu_fiber *f = w->now;
	struct emu_fiber *warp = &w->fiber[f->self.index / EMU_WARP * EMU_WARP];
	void *args[EMU_WARP] = { NULL };

	if (!(mask >> f->self.lane & 1))
		emu_fail("warp mask",
			 "%s with mask %08x, which does not name its own lane %u, %s:%d", what,
			 mask, f->self.lane, file, line);
	f->what = what;
	f->file = file;
	f->line = line;
	f->mask = mask;
	f->arg = arg;
	f->state = EMU_AT_WARP;
	cannot_run(w, f);
	for (uint32_t m = mask; m; m &= m - 1) {
		const unsigned lane = (unsigned)__builtin_ctz(m);
		const struct emu_fiber *o = &warp[lane];

		if (f->self.index / EMU_WARP * EMU_WARP + lane >= w->threads ||
		    o->state != EMU_AT_WARP || o->mask != mask || o->line != line ||
		    o->what != what) {
			stop(w, f, false);
			return;
		}
		args[lane] = o->arg;
	}
	if (finish)
		finish(args, mask, f->self.lane);
	if (sync)
		emu_shadow_syncwarp(w, f->self.index / EMU_WARP, mask);
	for (uint32_t m = mask; m; m &= m - 1)
		can_run(w, &warp[__builtin_ctz(m)]);
}

uint32_t emu_alive(void)
{
	struct emu_worker *w = emu_worker;
	const unsigned first = w->now->self.index / EMU_WARP * EMU_WARP;
	uint32_t mask = 0;

	for (unsigned i = 0; i < EMU_WARP && first + i < w->threads; i++)
		mask |= (uint32_t)(w->fiber[first + i].state != EMU_DONE) << i;
	return mask;
}

/* ---- shared memory ---- */

static void *piece_new(struct emu_worker *w, const void *key, size_t bytes, const char *name)
{
	struct emu_piece *p = &w->piece[w->pieces];

	if (w->pieces == EMU_PIECES || w->shared_used + bytes > EMU_SHARED_MAX)
		emu_fail("shared memory", "%s: %zu bytes more than %zu: too much for a block", name,
			 bytes, w->shared_used);
	*p = { key, name, w->arena_used, bytes };
	w->pieces++;
	w->shared_used += bytes;
	w->arena_used += (bytes + 15) / 16 * 16 + EMU_GAP;
	memset(w->arena + p->at, 0xff, bytes);
	return w->arena + p->at;
}

void *emu_shared_static(const void *key, size_t bytes, const char *name)
{
	struct emu_worker *w = emu_worker;
	void *p;

	for (unsigned i = 0; i < w->pieces; i++)
		if (w->piece[i].key == key)
			return w->arena + w->piece[i].at;
#if EMU_ASAN
	__asan_unpoison_memory_region(w->arena + w->arena_used, bytes);
#endif
	p = piece_new(w, key, bytes, name);
	return p;
}

void *emu_shared_dynamic(void)
{
	return emu_worker->dynamic;
}

const char *emu_piece_name(const struct emu_worker *w, const void *at, size_t *ret_offset)
{
	const size_t offset = (size_t)((const uint8_t *)at - w->arena);

	for (unsigned i = 0; i < w->pieces; i++)
		if (offset >= w->piece[i].at && offset < w->piece[i].at + w->piece[i].bytes) {
			*ret_offset = offset - w->piece[i].at;
			return w->piece[i].name;
		}
	*ret_offset = offset;
	return NULL;
}

/* ---- blocks ---- */

static void fiber_prepare(struct emu_worker *w, unsigned i, struct uint3 block)
{
	const struct dim3 *d = &w->launch->block;
	struct emu_fiber *f = &w->fiber[i];
	void **sp = (void **)(stack_of(w, i) + STACK) - 2;

	f->self.thread = { i % d->x, i / d->x % d->y, i / d->x / d->y };
	f->self.block = block;
	f->self.threads = w->launch->block;
	f->self.blocks = w->launch->grid;
	f->self.index = i;
	f->self.lane = i % EMU_WARP;
	f->copies.clear();
	f->groups = 0;
	*sp = (void *)fiber_start; /* where the first switch returns to */
	f->sp = sp - 6;
	memset(f->sp, 0, 6 * sizeof(*sp));
	can_run(w, f);
}

static void run_block(struct emu_worker *w, struct uint3 block)
{
	w->pieces = 0;
	w->arena_used = EMU_GAP;
	w->shared_used = 0;
	w->at_block = w->done = w->ready_warps = 0;
	memset(w->ready, 0, sizeof(w->ready));
	w->dynamic = NULL;
	emu_shadow_block(w);
#if EMU_ASAN
	__asan_poison_memory_region(w->arena, EMU_ARENA);
	if (w->launch->shared)
		__asan_unpoison_memory_region(w->arena + w->arena_used, w->launch->shared);
#endif
	if (w->launch->shared)
		w->dynamic = (uint8_t *)piece_new(w, &w->dynamic, w->launch->shared, "dynamic");
	for (unsigned i = 0; i < w->threads; i++)
		fiber_prepare(w, i, block);
	go(w, NULL, &w->fiber[0], false);
}

/* A thread's worker, made once: making the stacks anew costs a third of a small launch. */
static struct emu_worker *worker_new(void)
{
	struct emu_worker *w = new struct emu_worker();

	w->stacks = (uint8_t *)mmap(NULL, (size_t)EMU_THREADS * STACK, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->stacks == MAP_FAILED || posix_memalign((void **)&w->arena, 256, EMU_ARENA))
		emu_fail("no memory", "for the stacks of a block");
	for (unsigned i = 0; i < EMU_THREADS; i++) /* an overflow ends in a fault */
		if (mprotect(stack_of(w, i), 4096, PROT_NONE))
			emu_fail("no memory", "for the guards of the stacks");
#if EMU_ASAN
	pthread_attr_t attr;
	void *bottom;

	if (pthread_getattr_np(pthread_self(), &attr) ||
	    pthread_attr_getstack(&attr, &bottom, &w->size))
		emu_fail("no stack", "of the worker is known");
	pthread_attr_destroy(&attr);
	w->bottom = bottom;
#endif
	return w;
}

/* With the thread: threads of a program come and go. */
struct emu_mine {
	struct emu_worker *w = NULL;

	~emu_mine()
	{
		if (!w)
			return;
#if defined(SLUICE_EMU_TSAN)
		for (struct emu_fiber &f : w->fiber)
			if (f.fake)
				__tsan_destroy_fiber(f.fake);
#endif
		munmap(w->stacks, (size_t)EMU_THREADS * STACK);
		free(w->arena);
		delete w;
	}
};

static void work(const struct emu_launch_args *launch, std::atomic<uint64_t> *next)
{
	static thread_local struct emu_mine own;
	struct emu_worker *mine = own.w;
	const struct dim3 g = launch->grid;
	const uint64_t blocks = (uint64_t)g.x * g.y * g.z;

	if (!mine)
		mine = own.w = worker_new();
	mine->launch = launch;
	mine->threads = launch->block.x * launch->block.y * launch->block.z;
	emu_worker = mine;
	for (uint64_t i = next->fetch_add(1); i < blocks; i = next->fetch_add(1))
		run_block(mine, { (unsigned)(i % g.x), (unsigned)(i / g.x % g.y),
				  (unsigned)(i / g.x / g.y) });
	emu_worker = NULL;
	emu_shadow_free(mine);
#if EMU_ASAN
	__asan_unpoison_memory_region(mine->arena, EMU_ARENA);
	__asan_unpoison_memory_region(mine->stacks, (size_t)EMU_THREADS * STACK);
#endif
}

/* The second worker's thread, which waits for launches until the process ends. */
struct emu_helper {
	std::mutex lock;
	std::condition_variable change;
	const struct emu_launch_args *launch = NULL;
	std::atomic<uint64_t> *next = NULL;

	emu_helper()
	{
		std::thread([this] { loop(); }).detach();
	}
	void loop()
	{
		std::unique_lock<std::mutex> l(lock);

		for (;;) {
			change.wait(l, [this] { return launch != NULL; });
			l.unlock();
			work(launch, next);
			l.lock();
			launch = NULL;
			change.notify_all();
		}
	}
	void begin(const struct emu_launch_args *what, std::atomic<uint64_t> *counter)
	{
		std::unique_lock<std::mutex> l(lock);

		change.wait(l, [this] { return launch == NULL; });
		launch = what;
		next = counter;
		change.notify_all();
	}
	void wait_for(const struct emu_launch_args *what)
	{
		std::unique_lock<std::mutex> l(lock);

		change.wait(l, [this, what] { return launch != what; });
	}
};

static unsigned worker_count(void)
{
	static const unsigned count = [] {
		const char *text = getenv("SLUICE_EMU_THREADS");
		const long n = text ? strtol(text, NULL, 10) : sysconf(_SC_NPROCESSORS_ONLN);

		return n < 1 ? 1u : n > 2 ? 2u : (unsigned)n;
	}();

	return count;
}

int emu_refuses(struct dim3 grid, struct dim3 block, size_t shared)
{
	const uint64_t threads = (uint64_t)block.x * block.y * block.z;

	return threads == 0 || threads > EMU_THREADS || block.z > 64 || grid.x == 0 ||
			       grid.y == 0 || grid.z == 0 || grid.x > INT32_MAX || grid.y > 65535 ||
			       grid.z > 65535 || shared > EMU_SHARED_MAX
		       ? 9
		       : 0;
}

void emu_run(const char *kernel, struct dim3 grid, struct dim3 block, size_t shared,
	     void (*body)(void *arg), void *arg)
{
	const struct emu_launch_args launch = { kernel, grid, block, shared, body, arg };
	std::atomic<uint64_t> next(0);

	if (emu_now)
		emu_fail("launch", "of %s out of a kernel", kernel);
	emu_ran(kernel);
	if (worker_count() > 1 && (uint64_t)grid.x * grid.y * grid.z > 1) {
		/* never freed: its thread may still hold it when the process ends */
		static struct emu_helper *const helper = new struct emu_helper();

		helper->begin(&launch, &next);
		work(&launch, &next);
		helper->wait_for(&launch);
		return;
	}
	work(&launch, &next);
}
