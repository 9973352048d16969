/* SPDX-License-Identifier: MIT */
/*
 * Description: prompts that begin as earlier ones did, on the bundled model, which has recurrent state: what is
 * read again is what is new and at most 64 tokens, and the tokens are those of a run that reuses nothing; alone,
 * in company, with drafts, after pauses; tenants, title requests, cancelled and broken ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/num.h"
#include "engine/reuse.h"
#include "tests/unit/engine/engine_rig.h"

static struct engine_rig rig;

static int setup(void **state)
{
	rig_open(&rig);
	rig.config.prefix_cache = 64 << 20;
	return 0;
}

static int teardown(void **state)
{
	rig_close(&rig);
	return 0;
}

/* A conversation: its tokens so far. */
struct chat {
	uint32_t ids[1024], n, n_answer;
	struct prompt_mark marks[4];
	uint32_t n_marks;
	uint64_t tenant;
};

static void say(struct chat *c, uint32_t n, unsigned seed)
{
	for (uint32_t i = 0; i < n; i++) {
		seed = seed * 1103515245u + 12345u;
		c->ids[c->n++] = (seed >> 8) % (rig.model->n_vocab - 100);
	}
}

static void set_up(struct ask *a, const struct chat *c, uint32_t max_tokens, bool no_reuse)
{
	ask_prompt(a, &rig, 1, max_tokens, 1);
	memcpy(a->prompt, c->ids, c->n * sizeof(c->ids[0]));
	a->request.n_tokens = c->n;
	a->request.marks = c->marks;
	a->request.n_marks = c->n_marks;
	a->request.tenant = c->tenant;
	a->request.no_reuse = no_reuse;
}

/* Asks, compares with a run that reuses nothing, and appends the answer; returns the cached tokens. */
static uint32_t turn(struct chat *c, uint32_t max_tokens)
{
	static struct ask got, want;

	set_up(&got, c, max_tokens, false);
	ask_submit(&got, &rig);
	ask_wait(&got);
	set_up(&want, c, max_tokens, true);
	ask_submit(&want, &rig);
	ask_wait(&want);
	assert_int_equal(want.result.n_cached, 0);
	assert_int_equal(got.result.stop, STOP_LENGTH);
	assert_int_equal(got.result.n_prompt, c->n);
	assert_int_equal(got.n_tokens, max_tokens);
	assert_memory_equal(got.tokens, want.tokens, max_tokens * sizeof(want.tokens[0]));
	memcpy(c->ids + c->n, got.tokens, max_tokens * sizeof(got.tokens[0]));
	c->n += max_tokens;
	c->n_answer = max_tokens;
	return got.result.n_cached;
}

static void mark(struct chat *c, uint32_t at, enum mark_kind kind)
{
	c->marks[c->n_marks++] = (struct prompt_mark){ at, kind };
}

/* Each turn goes on from the end of the answer before; drafts may have run ahead of it. */
static void test_turns(void **state)
{
	for (unsigned round = 0; round < 2; round++) {
		struct chat c = { 0 };
		uint32_t cached, before;

		rig.config.spec = round ? SPEC_NGRAM : SPEC_OFF;
		rig_start(&rig);
		say(&c, 300, 7);
		mark(&c, 200, MARK_SYSTEM);
		mark(&c, 290, MARK_USER);
		assert_int_equal(turn(&c, 20), 0);
		for (unsigned i = 0; i < 5; i++) {
			before = c.n;
			say(&c, 40 + i, 100 + i);
			cached = turn(&c, 10 + i);
			/* all but the answer's last token, which was never read */
			assert_in_range(cached, before - 1, before);
		}
		rig_stop(&rig);
	}
}

/* The answer's thoughts are left out, the last message is edited, another chat has the same system text. */
static void test_forks(void **state)
{
	struct chat c = { 0 }, d, first;
	uint32_t cached;

	rig_start(&rig);
	say(&c, 400, 1);
	mark(&c, 250, MARK_SYSTEM);
	mark(&c, 390, MARK_USER);
	mark(&c, 396, MARK_PROMPT); /* a neighbour of the mark before */
	first = c;
	turn(&c, 30);
	d = first;
	d.n = 392;
	say(&d, 60, 2);
	assert_int_equal(turn(&d, 5), 390); /* within eight tokens */
	d = first;
	d.n = 300; /* edited: back to the system text */
	d.n_marks = 1;
	say(&d, 80, 3);
	cached = turn(&d, 5);
	assert_int_equal(cached, 250);
	/* it left what was cached at 300: that is kept for the next */
	d.n = 300;
	say(&d, 80, 4);
	cached = turn(&d, 5);
	assert_in_range(cached, 250, 300);
	d.n = 200; /* before the system text's end: nothing */
	say(&d, 100, 5);
	assert_int_equal(turn(&d, 5), 0);
}

static void test_without_marks(void **state)
{
	struct chat c = { 0 };

	rig_start(&rig);
	say(&c, 200, 1);
	turn(&c, 5);
	c.n = 200; /* the same again: all but the last token */
	assert_int_equal(turn(&c, 5), 199);
}

static void test_tenants(void **state)
{
	for (unsigned share = 0; share < 2; share++) {
		struct chat a = { .tenant = 1 }, b;

		rig.config.prefix_share = share;
		rig_start(&rig);
		say(&a, 200, 1);
		b = a;
		turn(&a, 5);
		b.tenant = 2;
		assert_int_equal(turn(&b, 5), share ? 199 : 0);
		b.n = 200;
		assert_int_equal(turn(&b, 5), 199);
		rig_stop(&rig);
	}
}

/* Many chats at once, each turn in company of the others, on few pages. */
static void test_company(void **state)
{
	enum { CHATS = 16, TURNS = 3 };
	static struct chat chats[CHATS], alone[CHATS];
	static struct ask asks[CHATS];
	uint64_t cached = 0, pauses = 0;
	struct engine_status s;

	rig.config.n_parallel = 16;
	rig.config.n_ctx = 512;
	for (unsigned round = 0; round < 3; round++) {
		struct chat *all = round ? chats : alone;

		rig_start(&rig);
		engine_get_status(rig.engine, &s);
		for (unsigned i = 0; i < CHATS; i++) {
			all[i].n = 0;
			say(&all[i], 150, 1); /* the same system text */
			mark(&all[i], 150, MARK_SYSTEM);
			all[i].n_marks = 1;
			say(&all[i], 20 + i * 3, i + 2);
		}
		for (unsigned t = 0; t < TURNS; t++) {
			for (unsigned i = 0; i < CHATS; i++) {
				set_up(&asks[i], &all[i], 16 + i, !round);
				ask_submit(&asks[i], &rig);
				if (!round)
					ask_wait(&asks[i]);
			}
			for (unsigned i = 0; i < CHATS; i++) {
				ask_wait(&asks[i]);
				if (asks[i].result.stop != STOP_LENGTH)
					fail_msg("%s", asks[i].result.err.text);
				memcpy(all[i].ids + all[i].n, asks[i].tokens, (16 + i) * 4);
				all[i].n += 16 + i;
				cached += asks[i].result.n_cached;
				say(&all[i], 10 + t, i * 5 + t);
			}
		}
		for (unsigned i = 0; i < CHATS; i++) {
			assert_int_equal(all[i].n, alone[i].n);
			assert_memory_equal(all[i].ids, alone[i].ids, all[i].n * 4);
		}
		engine_get_status(rig.engine, &s);
		pauses += s.pauses;
		rig_stop(&rig);
		if (!round)
			assert_int_equal(cached, 0);
		/* and the last round in the room of one sequence and two */
		if (round == 1) {
			assert_true(cached > 16 * 150);
			rig.config.kv_budget = s.kv_bytes / 16 + s.kv_bytes / 128;
			rig.config.prefix_cache = 1 << 20;
		}
	}
}

/* A cancelled prompt leaves nothing wrong: a step that was given up is no use. */
static void test_ends(void **state)
{
	static struct ask a;
	struct chat c = { 0 };
	uint32_t read;

	rig.config.n_batch = 64;
	rig_start(&rig);
	say(&c, 900, 3);
	set_up(&a, &c, 5, false);
	a.request.want_progress = true;
	ask_submit(&a, &rig);
	while (atomic_load(&a.n_read) < 128 && !atomic_load(&a.ended))
		usleep(100);
	atomic_store(&a.request.cancel, true);
	ask_wait(&a);
	read = a.result.n_prompt;
	assert_in_range(turn(&c, 5), 0, read);
}

/* Titles of a chat: short prompts that nobody asks again do not displace it. */
static void test_titles(void **state)
{
	struct chat c = { 0 }, title;
	uint32_t before;

	rig.config.n_parallel = 2;
	rig.config.prefix_cache = 4 << 20;
	rig_start(&rig);
	say(&c, 600, 3);
	mark(&c, 400, MARK_SYSTEM);
	turn(&c, 10);
	say(&c, 30, 4);
	turn(&c, 10);
	before = c.n;
	for (unsigned i = 0; i < 40; i++) {
		title = (struct chat){ 0 };
		say(&title, 150, 1000 + i);
		turn(&title, 3);
	}
	say(&c, 30, 5);
	assert_in_range(turn(&c, 10), before - 1, before);
}

/* Many that begin alike, each with an end of its own: their beginning outlives the ends. */
static void test_one_beginning(void **state)
{
	struct chat c;

	rig.config.prefix_cache = 4 << 20;
	rig_start(&rig);
	for (unsigned i = 0; i < 14; i++) {
		c = (struct chat){ 0 };
		say(&c, 150, 7);
		say(&c, 70, 50 + i);
		assert_int_equal(turn(&c, 2), i < 2 ? 0 : 150);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_marks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tenants, setup, teardown),
		cmocka_unit_test_setup_teardown(test_company, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_titles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_beginning, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
