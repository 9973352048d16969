/* SPDX-License-Identifier: MIT */
/*
 * Description: the prefix tree against a simple model: every page of every match holds what the match's tokens
 * say, matches are the longest that can be had, other cuts of a text find it, tenants see their own, and what was
 * taken up again, system texts and the newest ends outlive the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/prefix_tree.h"

#define N_PAGES 160
#define MOST	700
#define STATES	3 /* pages of a point */
#define CONTROL 12
#define EMPTY	13
#define N_IDS	14

/* a, b, c; then all pairs of them; then a control token and one without text. */
static bool piece(void *arg, uint32_t id, const char **ret, size_t *ret_n)
{
	static const char *const pairs[] = { "aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb", "cc" };
	static const char *const one[] = { "a", "b", "c" };

	*ret_n = id < 3 ? 1 : id < CONTROL ? 2 : 0;
	*ret = id < 3 ? one[id] : id < CONTROL ? pairs[id - 3] : "";
	if (id == CONTROL) {
		*ret = "<x>";
		*ret_n = 3;
	}
	return id == CONTROL;
}

static uint64_t state_of_dice = 1;

static uint32_t dice(uint32_t n)
{
	state_of_dice = state_of_dice * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state_of_dice >> 33) % n);
}

/* What keys and values at a position depend on: all tokens up to it. */
static uint64_t value_at(const uint32_t *ids, uint32_t at)
{
	uint64_t v = 99;

	for (uint32_t i = 0; i <= at; i++)
		v = (v ^ ids[i]) * 1099511628211u;
	return v;
}

/* The memory of the pages; a point's value is in its first page. */
static uint64_t memory[N_PAGES][KV_BLOCK];

struct world {
	struct pages pages;
	struct prefix_tree *tree;
	bool states, forgot;
	bool blind; /* the model was not told of everything */
	/* the model: all that was added, with the positions of points */
	struct added {
		uint64_t tenant;
		uint32_t n, ids[MOST];
		bool point[MOST + 1];
	} * added;
	uint32_t n_added;
};

struct running {
	uint64_t tenant;
	uint32_t ids[MOST], pages[N_PAGES], n, n_pages;
};

static void open_world(struct world *w, bool states)
{
	struct prefix_config c = { .pages = &w->pages,
				   .has_cache = true,
				   .state_pages = states ? STATES : 0,
				   .piece = piece };

	memset(w, 0, sizeof(*w));
	w->states = states;
	w->added = calloc(4000, sizeof(*w->added));
	assert_non_null(w->added);
	assert_int_equal(pages_init(&w->pages, N_PAGES), 0);
	assert_int_equal(prefix_tree_create(&c, &w->tree), 0);
}

static void close_world(struct world *w)
{
	/* nobody else has any by now */
	assert_int_equal(w->pages.n_free + prefix_can_free(w->tree), N_PAGES);
	prefix_tree_destroy(w->tree);
	assert_int_equal(w->pages.n_free, N_PAGES); /* nothing leaks */
	pages_fini(&w->pages);
	free(w->added);
}

static bool make_free(struct world *w, uint32_t n, enum prefix_need need, uint32_t length)
{
	if (w->pages.n_free < n)
		w->forgot = true;
	return prefix_make_free(w->tree, n, need, length, PREFIX_SYSTEM);
}

/* The next tokens of a sequence: pages are taken and written. */
static void compute(struct world *w, struct running *r, const uint32_t *ids, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (r->n / KV_BLOCK == r->n_pages) {
			assert_true(make_free(w, 1, PREFIX_FOR_LIFE, 0));
			r->pages[r->n_pages++] = page_take(&w->pages);
		}
		r->ids[r->n] = ids[i];
		memory[r->pages[r->n / KV_BLOCK]][r->n % KV_BLOCK] = value_at(r->ids, r->n);
		r->n++;
	}
}

static void keep(struct world *w, const struct running *r, bool point, enum prefix_kind kind)
{
	struct added *a = &w->added[w->n_added++];
	const uint32_t *to;

	assert_int_equal(prefix_add(w->tree, r->tenant, r->ids, r->n, r->pages, false), 0);
	a->tenant = r->tenant;
	a->n = r->n;
	memcpy(a->ids, r->ids, sizeof(a->ids));
	if (!point || !w->states || !make_free(w, STATES, PREFIX_FOR_KNOWN, r->n))
		return;
	/* room may have been made of the way itself */
	if (prefix_add_point(w->tree, r->tenant, r->ids, r->n, kind, false, &to))
		return;
	a->point[r->n] = true;
	if (to)
		memory[to[0]][0] = value_at(r->ids, r->n - 1);
}

static void end(struct world *w, struct running *r)
{
	for (uint32_t i = 0; i < r->n_pages; i++)
		page_drop(&w->pages, r->pages[i]);
	r->n = r->n_pages = 0;
}

static size_t text_of(const uint32_t *ids, uint32_t n, char *ret)
{
	size_t used = 0, len;
	const char *bytes;

	for (uint32_t i = 0; i < n; i++) {
		piece(NULL, ids[i], &bytes, &len);
		memcpy(ret + used, bytes, len);
		used += len;
	}
	return used;
}

/* The longest that the model has for @ids, token by token. */
static uint32_t longest(const struct world *w, uint64_t tenant, const uint32_t *ids, uint32_t n)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < w->n_added; i++) {
		const struct added *a = &w->added[i];
		uint32_t k = 0;

		if (a->tenant != tenant)
			continue;
		while (k < a->n && k < n - 1 && a->ids[k] == ids[k]) {
			k++;
			if ((!w->states || a->point[k]) && k > best)
				best = k;
		}
	}
	return best;
}

/* Looks up, checks what comes, and begins a sequence with it. */
static uint32_t begin(struct world *w, struct running *r, uint64_t tenant, const uint32_t *ids,
		      uint32_t n, bool exact)
{
	char have[3 * MOST], want[3 * MOST];
	uint32_t pages[MOST / KV_BLOCK + 1], best = longest(w, tenant, ids, n);
	struct prefix_match m;
	size_t bytes;

	assert_true(make_free(w, 1, PREFIX_FOR_LIFE, 0));
	prefix_find(w->tree, tenant, ids, n, exact, &m);
	memset(r, 0, sizeof(*r));
	r->tenant = tenant;
	prefix_get(&m, r->ids, pages);
	assert_true(m.n_asked < n && m.fork >= m.n_asked && m.fork < n);
	if (exact) {
		assert_int_equal(m.n, m.n_asked);
		assert_true(w->blind || m.n <= best);
		assert_memory_equal(r->ids, ids, m.n * sizeof(*ids));
	}
	if (!w->forgot)
		assert_true(m.n_asked >= best);
	bytes = text_of(r->ids, m.n, have);
	assert_int_equal(text_of(ids, m.n_asked, want), bytes);
	assert_memory_equal(have, want, bytes);
	for (uint32_t i = 0; i < m.n; i++)
		assert_true(memory[pages[i / KV_BLOCK]][i % KV_BLOCK] == value_at(r->ids, i));
	if (m.n && w->states)
		assert_true(memory[prefix_state(&m)[0]][0] == value_at(r->ids, m.n - 1));
	for (uint32_t i = 0; i < m.n / KV_BLOCK; i++) {
		page_hold(&w->pages, pages[i]);
		r->pages[r->n_pages++] = pages[i];
	}
	if (m.n % KV_BLOCK) {
		r->pages[r->n_pages] = page_take(&w->pages);
		memcpy(memory[r->pages[r->n_pages++]], memory[pages[m.n / KV_BLOCK]],
		       sizeof(memory[0]));
	}
	r->n = m.n;
	return m.n_asked;
}

/* Tokens that begin as something that was added, and go on by chance. */
static uint32_t some_ids(const struct world *w, uint64_t tenant, uint32_t *ids, uint32_t most)
{
	uint32_t n = 0, len = 1 + dice(most);

	if (w->n_added && dice(4)) {
		const struct added *a = &w->added[dice(w->n_added)];

		n = dice(a->n + 1);
		n = n < len ? n : len;
		memcpy(ids, a->ids, n * sizeof(*ids));
	}
	while (n < len)
		ids[n++] = dice(3) ? dice(3) : dice(N_IDS);
	return n;
}

static void check_random(bool states, uint32_t most, unsigned rounds)
{
	struct running live[3] = { 0 };
	struct world w;

	open_world(&w, states);
	for (unsigned i = 0; i < rounds; i++) {
		struct running *r = &live[dice(3)];
		uint32_t ids[MOST], n, at;
		uint64_t tenant = dice(3);

		if (r->n) { /* goes on in its last page, is kept now and then, and ends */
			n = 1 + dice(80);
			for (uint32_t k = 0; k < n; k++)
				ids[k] = dice(3);
			n = r->n + n < MOST ? n : MOST - r->n;
			compute(&w, r, ids, n);
			keep(&w, r, dice(2), PREFIX_ANSWER);
			if (dice(2))
				end(&w, r);
			continue;
		}
		n = some_ids(&w, tenant, ids, most);
		at = begin(&w, r, tenant, ids, n, dice(2));
		while (at < n && r->n < MOST) {
			uint32_t some = 1 + dice(n - at);

			some = r->n + some < MOST ? some : MOST - r->n;
			compute(&w, r, ids + at, some);
			at += some;
			keep(&w, r, true, (enum prefix_kind)(PREFIX_EVERY + dice(6)));
			if (r->n == MOST)
				break;
		}
	}
	for (unsigned i = 0; i < 3; i++)
		end(&w, &live[i]);
	close_world(&w);
}

static void test_random(void **unused)
{
	check_random(false, 60, 30); /* all fits: matches are the longest */
	check_random(true, 60, 12);
	check_random(false, 300, 600);
	check_random(true, 300, 600);
}

static const uint32_t abc[] = { 0, 1, 2, 0, 1, 2, 0, 1 };

/* a b c a b c a b, cut otherwise: found as far as cuts coincide. */
static void test_text(void **unused)
{
	static const uint32_t pairs[] = { 4, 2, 4, 2, 4, 0 }; /* ab c ab c ab a */
	static const uint32_t shifted[] = { 0, 8, 4, 2, 7 };  /* a bc ab c bb */
	static const uint32_t control[] = { 0, 1, 2, CONTROL };
	struct running r = { .tenant = 1 };
	struct prefix_match m;
	uint32_t ids[8];
	struct world w;

	open_world(&w, false);
	compute(&w, &r, abc, 8);
	keep(&w, &r, false, PREFIX_ANSWER);
	prefix_find(w.tree, 1, pairs, 6, false, &m);
	assert_int_equal(m.n, 8);
	assert_int_equal(m.n_asked, 5);
	prefix_get(&m, ids, NULL);
	assert_memory_equal(ids, abc, sizeof(abc));
	prefix_find(w.tree, 1, pairs, 6, true, &m);
	assert_int_equal(m.n, 0);
	prefix_find(w.tree, 1, shifted, 5, false, &m);
	assert_int_equal(m.n, 6); /* up to the c; the last b is half of bb */
	assert_int_equal(m.n_asked, 4);
	prefix_find(w.tree, 2, abc, 8, false, &m); /* another tenant */
	assert_int_equal(m.n, 0);
	prefix_find(w.tree, 1, abc, 8, false, &m); /* one is left to compute */
	assert_int_equal(m.n, 7);
	prefix_find(w.tree, 1, control, 4, false, &m);
	assert_int_equal(m.n, 3);
	end(&w, &r);
	close_world(&w);
}

/* A way of @n tokens that begins with @first, as one request has it: looked up, computed, kept. */
static uint32_t request(struct world *w, uint32_t first, uint32_t n, uint32_t system,
			enum prefix_need need)
{
	struct running r;
	uint32_t ids[MOST], at, start;
	const uint32_t *to;

	for (uint32_t i = 0; i < n; i++)
		ids[i] = i < system ? first % 3 : (first + i * i / 7) % 3 + (i == n - 1 ? 3 : 0);
	start = at = begin(w, &r, 1, ids, n, true);
	for (uint32_t stop = system; at < n; stop = n) {
		if (stop <= at)
			continue;
		compute(w, &r, ids + at, stop - at);
		at = stop;
		assert_int_equal(
			prefix_add(w->tree, 1, r.ids, r.n, r.pages, need == PREFIX_FOR_KNOWN), 0);
		if (w->states &&
		    prefix_make_free(w->tree, STATES, need, r.n,
				     stop == n ? PREFIX_ANSWER : PREFIX_SYSTEM) &&
		    !prefix_add_point(w->tree, 1, r.ids, r.n,
				      stop == n ? PREFIX_ANSWER : PREFIX_SYSTEM,
				      need == PREFIX_FOR_KNOWN, &to) &&
		    to)
			memory[to[0]][0] = value_at(r.ids, r.n - 1);
	}
	end(w, &r);
	return start;
}

/* An agent's chat that is taken up again outlives any number of one-off requests. */
static void check_value(bool states)
{
	struct world w;
	uint32_t n = 300;

	open_world(&w, states);
	w.forgot = w.blind = true;
	request(&w, 0, n, 200, PREFIX_FOR_NEW);
	for (unsigned turn = 0; turn < 3; turn++) {
		n += 40;
		assert_true(request(&w, 0, n, 200, PREFIX_FOR_KNOWN) >= 200);
	}
	for (unsigned i = 0; i < 40; i++)
		request(&w, 1 + i % 2, 40 + i, 20, PREFIX_FOR_NEW);
	assert_true(request(&w, 0, n, 200, PREFIX_FOR_KNOWN) >= (states ? 200 : n - 41));
	close_world(&w);
}

static void test_value(void **unused)
{
	check_value(false);
	check_value(true);
}

/* Points: the newest of a kind outlive older ones, system texts outlive both. */
static void test_newest(void **unused)
{
	struct running r = { .tenant = 1 };
	struct prefix_match m;
	uint32_t ids[400];
	struct world w;

	open_world(&w, true);
	for (unsigned i = 0; i < 400; i++)
		ids[i] = i * i % 11 % 3;
	compute(&w, &r, ids, 100);
	keep(&w, &r, true, PREFIX_SYSTEM);
	for (unsigned i = 1; i < 4; i++) {
		compute(&w, &r, ids + r.n, 50);
		keep(&w, &r, true, PREFIX_USER);
		compute(&w, &r, ids + r.n, 20);
		keep(&w, &r, true, PREFIX_ANSWER);
	}
	/* 100 150 170 220 240 290 310; room for all but four of them */
	while (w.pages.n_free)
		r.pages[r.n_pages++] = page_take(&w.pages);
	assert_true(prefix_make_free(w.tree, 4 * STATES, PREFIX_FOR_LIFE, 0, PREFIX_OLD));
	prefix_find(w.tree, 1, ids, 400, true, &m);
	assert_int_equal(m.n, 310);
	prefix_find(w.tree, 1, ids, 300, true, &m);
	assert_int_equal(m.n, 290);
	prefix_find(w.tree, 1, ids, 290, true, &m);
	assert_int_equal(m.n, 100);
	end(&w, &r);
	close_world(&w);
}

/* What goes on in the page where a sequence ends outlives that sequence. */
static void test_forget(void **state)
{
	static struct running r;
	static uint32_t ids[81];
	struct prefix_match m;
	struct world w;

	open_world(&w, false);
	compute(&w, &r, ids, 70);
	keep(&w, &r, false, PREFIX_ANSWER);
	compute(&w, &r, ids, 10);
	keep(&w, &r, false, PREFIX_ANSWER);
	prefix_find(w.tree, 0, ids, 71, true, &m);
	assert_int_equal(m.n, 70);
	assert_int_equal(prefix_forget(w.tree, &m), 0);
	prefix_find(w.tree, 0, ids, 81, true, &m);
	assert_int_equal(m.n, 80);
	assert_int_equal(prefix_forget(w.tree, &m), 80);
	end(&w, &r);
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random), cmocka_unit_test(test_text),
		cmocka_unit_test(test_value),  cmocka_unit_test(test_newest),
		cmocka_unit_test(test_forget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
