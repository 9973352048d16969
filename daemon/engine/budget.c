/* SPDX-License-Identifier: MIT */
/*
 * daemon/engine/budget.c: see budget.h.
 *
 * The cache counts as if every sequence were full: it is taken page by page as it is written, and a
 * daemon that grows into a limit is killed there. By default the experts get what is left after the
 * dense weights, the buffers, the cache and a margin for the system, or the pool of huge pages if
 * that is more. A default context is lowered rather than leave the experts less than half.
 */
#include "engine/budget.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "base/size.h"

#define MARGIN_MOST (512ull << 20) /* left to the system by the default budget */
#define MARGIN_PART 8		   /* of small machines and groups, one part in so many */
#define LEAST_CTX   2048	   /* a default context is not lowered below this */

struct sizes {
	const struct budget_ask *ask;
	uint64_t room;
	bool known;   /* the room was read, not assumed: then what cannot fit is refused */
	uint64_t own; /* dense weights and buffers */
	uint64_t margin;
	uint64_t wanted; /* expert bytes that were asked for, 0: automatic */
};

static uint64_t add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return u64_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t left(uint64_t room, uint64_t used)
{
	return room > used ? room - used : 0;
}

static uint64_t cache(const struct budget_ask *ask, uint32_t n_parallel, uint32_t n_ctx)
{
	return ask->cache_bytes(ask->arg, n_parallel, n_ctx);
}

/* One more sentence of the note. */
static void say(struct budget *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct budget *b, const char *fmt, ...)
{
	size_t used = strlen(b->note);
	va_list ap;

	if (used)
		used += (size_t)snprintf(b->note + used, sizeof(b->note) - used, "; ");
	if (used >= sizeof(b->note))
		return;
	va_start(ap, fmt);
	vsnprintf(b->note + used, sizeof(b->note) - used, fmt, ap);
	va_end(ap);
}

/*
 * Do @experts fit beside a cache of @cache_bytes? The experts' arena lies in the pool of huge pages
 * when that holds it, and then the dense weights' when it holds them as well.
 */
static bool fits(const struct sizes *s, uint64_t experts, uint64_t cache_bytes, uint64_t margin)
{
	const struct budget_ask *ask = s->ask;
	uint64_t pool = limits_huge_bytes(ask->limits), taken;

	taken = add(add(s->own, cache_bytes), margin);
	if (experts && align_up(experts, LIMITS_HUGE_PAGE) <= pool) {
		pool -= align_up(experts, LIMITS_HUGE_PAGE);
		experts = 0;
	}
	if (ask->dense_bytes <= pool)
		taken = left(taken, ask->dense_bytes);
	return add(taken, experts) <= s->room;
}

uint64_t budget_sure_room(uint64_t room)
{
	if (room == LIMITS_UNKNOWN)
		return room;
	/* up to whole MiB, so that it never is less than was said */
	return left(room,
		    u64_max(BUDGET_SLACK_LEAST, align_up(room / BUDGET_SLACK_PART, 1ull << 20)));
}

/* ---- sentences ---- */

static void tell_room(char *buf, size_t len, const struct sizes *s)
{
	char size[32];

	snprintf(buf, len, "this process may take %s more (%.160s)",
		 size_format(size, sizeof(size), s->room), s->ask->limits->memory_from);
}

static const char *plural(uint32_t n)
{
	return n == 1 ? "" : "s";
}

/* What of a cache no fewer and no shorter sequences make less. */
static const char *tell_prefixes(char *buf, size_t len, const struct budget_ask *ask)
{
	char size[32];

	buf[0] = '\0';
	if (ask->prefix_bytes)
		snprintf(buf, len, " (%s of it for --prefix-cache)",
			 size_format(size, sizeof(size), ask->prefix_bytes));
	return buf;
}

static int refuse_cache(const struct sizes *s, const struct budget *b, struct err *err)
{
	char size[32], rest[32], room[256], prefixes[80];

	tell_room(room, sizeof(room), s);
	return err_set(err, -ENOSPC,
		       "the KV cache of %u sequence%s with a context of %u tokens needs %s%s, and "
		       "dense weights and buffers %s, but %s: lower %s--ctx or --parallel",
		       b->n_parallel, plural(b->n_parallel), b->n_ctx,
		       size_format(size, sizeof(size), cache(s->ask, b->n_parallel, b->n_ctx)),
		       tell_prefixes(prefixes, sizeof(prefixes), s->ask),
		       size_format(rest, sizeof(rest), s->own), room,
		       s->ask->prefix_bytes ? "--prefix-cache, " : "");
}

static int refuse_model(const struct sizes *s, struct err *err)
{
	char size[32], least[32], room[256];

	tell_room(room, sizeof(room), s);
	return err_set(err, -ENOSPC,
		       "the model needs %s for its dense weights and buffers and %s for the least "
		       "experts, but %s: free memory, raise that limit or take a smaller model",
		       size_format(size, sizeof(size), s->own),
		       size_format(least, sizeof(least), s->ask->least_bytes), room);
}

/* A budget that was asked for. */
static int refuse_budget(const struct sizes *s, const struct budget *b, struct err *err)
{
	uint64_t fixed = add(s->own, cache(s->ask, b->n_parallel, b->n_ctx));
	uint64_t most =
		u64_max(left(budget_sure_room(s->room), fixed), limits_huge_bytes(s->ask->limits));
	char size[32], rest[32], room[256], least[32], advice[64];

	tell_room(room, sizeof(room), s);
	snprintf(advice, sizeof(advice), "at most --host-budget %lluM fits",
		 (unsigned long long)(most >> 20));
	if (most < s->ask->least_bytes)
		snprintf(advice, sizeof(advice), "lower --ctx or --parallel; experts need %s",
			 size_format(least, sizeof(least), s->ask->least_bytes));
	return err_set(
		err, -ENOSPC,
		"--host-budget: %s of experts, and %s for dense weights, buffers and the KV "
		"cache of %u sequence%s with a context of %u tokens, are more than fits: %s: "
		"%s",
		size_format(size, sizeof(size), s->wanted), size_format(rest, sizeof(rest), fixed),
		b->n_parallel, plural(b->n_parallel), b->n_ctx, room, advice);
}

/* More was asked for than there is, whether or not the model could use it. */
static int refuse_excess(const struct sizes *s, struct err *err)
{
	char asked[32], all[32], room[256];

	tell_room(room, sizeof(room), s);
	return err_set(
		err, -ENOSPC,
		"--host-budget: %s is more than there is: %s; all experts of this model need "
		"%s: lower --host-budget, or leave it out",
		size_format(asked, sizeof(asked), s->ask->host_budget), room,
		size_format(all, sizeof(all), s->ask->all_bytes));
}

/* ---- choices ---- */

/* What the experts are to have at least while defaults are lowered for them. */
static uint64_t aim(const struct sizes *s)
{
	if (s->wanted)
		return s->wanted;
	return u64_max(s->ask->least_bytes,
		       u64_min(s->ask->all_bytes, left(s->room, add(s->own, s->margin)) / 2));
}

/* Lowers the sequences and then the context, as far as neither was asked for. */
static void lower_defaults(const struct sizes *s, struct budget *b)
{
	const struct budget_ask *ask = s->ask;
	uint64_t margin = s->wanted ? 0 : s->margin;
	char size[32], room[32], prefixes[80];

	while (!fits(s, aim(s), cache(ask, b->n_parallel, b->n_ctx), margin)) {
		if (!ask->parallel_given && b->n_parallel > 1)
			b->n_parallel /= 2;
		else if (!ask->ctx_given && b->n_ctx / 2 >= LEAST_CTX)
			b->n_ctx /= 2;
		else
			break;
	}
	if (b->n_ctx == ask->n_ctx && b->n_parallel == ask->n_parallel)
		return;
	say(b,
	    "the KV cache of %u sequence%s with a context of %u tokens would take %s%s of %s: %u "
	    "with %u are taken instead (--parallel and --ctx set them)",
	    ask->n_parallel, plural(ask->n_parallel), ask->n_ctx,
	    size_format(size, sizeof(size), cache(ask, ask->n_parallel, ask->n_ctx)),
	    tell_prefixes(prefixes, sizeof(prefixes), ask),
	    size_format(room, sizeof(room), s->room), b->n_parallel, b->n_ctx);
}

/* Why an automatic budget is what it is. */
static void explain(const struct sizes *s, struct budget *b, uint64_t cache_bytes, bool from_pool)
{
	char budget[32], room[32], own[32], kv[32], margin[32];

	size_format(budget, sizeof(budget), b->expert_bytes);
	if (b->expert_bytes == s->ask->all_bytes)
		snprintf(b->why, sizeof(b->why), "the budget is %s: all experts fit", budget);
	else if (from_pool)
		snprintf(b->why, sizeof(b->why),
			 "the budget is %s: the free huge pages, which hold more than ordinary "
			 "memory would",
			 budget);
	else
		snprintf(b->why, sizeof(b->why),
			 "the budget is %s: what %s leave beside %s of dense weights and buffers, "
			 "%s of cache and state, and %s for the system (--host-budget sets it)",
			 budget, size_format(room, sizeof(room), s->room),
			 size_format(own, sizeof(own), s->own),
			 size_format(kv, sizeof(kv), cache_bytes),
			 size_format(margin, sizeof(margin), s->margin));
}

static int choose_default(const struct sizes *s, struct budget *b, struct err *err)
{
	const struct budget_ask *ask = s->ask;
	uint64_t cache_bytes = cache(ask, b->n_parallel, b->n_ctx);
	uint64_t pool = limits_huge_bytes(ask->limits) / LIMITS_HUGE_PAGE * LIMITS_HUGE_PAGE;
	uint64_t budget = left(s->room, add(add(s->own, cache_bytes), s->margin));
	bool from_pool = pool > budget && fits(s, pool, cache_bytes, 0);

	if (from_pool)
		budget = pool;
	budget = u64_min(budget, ask->all_bytes);
	if (budget < ask->least_bytes && !s->known)
		budget = ask->least_bytes; /* nothing is known: start */
	if (budget < ask->least_bytes)
		/* would it do without the cache? */
		return fits(s, ask->least_bytes, 0, s->margin) ? refuse_cache(s, b, err)
							       : refuse_model(s, err);
	b->expert_bytes = budget;
	b->margin_bytes = s->margin;
	explain(s, b, cache_bytes, from_pool);
	return 0;
}

static int choose_asked(const struct sizes *s, struct budget *b, struct err *err)
{
	const struct budget_ask *ask = s->ask;
	uint64_t cache_bytes = cache(ask, b->n_parallel, b->n_ctx);
	char size[32], all[32];

	if (s->wanted < ask->least_bytes)
		return err_set(err, -ENOSPC,
			       "the expert budget of %llu bytes is too small: need at least %llu "
			       "bytes (--host-budget)",
			       (unsigned long long)s->wanted, (unsigned long long)ask->least_bytes);
	if (s->known && !fits(s, s->wanted, cache_bytes, 0))
		return refuse_budget(s, b, err);
	b->expert_bytes = s->wanted;
	snprintf(b->why, sizeof(b->why), "the budget is %s of %s for all experts: --host-budget",
		 size_format(size, sizeof(size), s->wanted),
		 size_format(all, sizeof(all), ask->all_bytes));
	return 0;
}

int budget_choose(const struct budget_ask *ask, struct budget *ret, struct err *err)
{
	struct budget b = { .n_ctx = ask->n_ctx, .n_parallel = ask->n_parallel };
	struct sizes s = { .ask = ask,
			   .room = ask->limits->room_bytes,
			   .known = ask->limits->room_bytes != LIMITS_UNKNOWN,
			   .own = add(ask->dense_bytes, ask->buffer_bytes) };
	char size[32];
	int rc = 0;

	if (!s.known) {
		s.room = ask->assume_bytes ? ask->assume_bytes : LIMITS_ASSUME_MOST;
		say(&b,
		    "the memory of this machine is unknown (/proc/meminfo cannot be read): assuming "
		    "%s for this process (--host-budget sets the experts' part)",
		    size_format(size, sizeof(size), s.room));
	}
	b.room_bytes = s.room;
	s.margin = u64_min(s.room / MARGIN_PART, MARGIN_MOST);
	if (ask->host_budget)
		s.wanted = u64_min(ask->host_budget, ask->all_bytes);
	else if (ask->percent)
		s.wanted = (uint64_t)((double)ask->all_bytes * ask->percent / 100);
	/* a size that the experts fill is looked at beside everything else, below */
	if (s.known && ask->all_bytes && ask->host_budget > ask->all_bytes &&
	    ask->host_budget > u64_max(s.room, limits_huge_bytes(ask->limits)))
		return refuse_excess(&s, err);
	lower_defaults(&s, &b);
	if (s.known && !fits(&s, 0, cache(ask, b.n_parallel, b.n_ctx), 0))
		rc = fits(&s, 0, 0, 0) ? refuse_cache(&s, &b, err) : refuse_model(&s, err);
	else if (ask->all_bytes)
		rc = s.wanted || ask->host_budget || ask->percent ? choose_asked(&s, &b, err)
								  : choose_default(&s, &b, err);
	if (!rc)
		*ret = b;
	return rc;
}
