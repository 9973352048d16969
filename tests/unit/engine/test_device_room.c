/* SPDX-License-Identifier: MIT */
/*
 * Description: who has the memory of a device that sequences and slots share, over a device that only counts: who
 * finds none waits, gives way, begins once more or ends by name, and nobody takes what helps nobody.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/clock.h"
#include "device/device_private.h"
#include "engine/engine_private.h"
#include "tests/unit/engine/engine_rig.h"
#include "tests/unit/engine/supply_rig.h"

enum { PLACES = 4, CTX = 512, PAGE = 64, OF_BLOCK = 4 /* slots */ };

/* A block for a state, one for each page, one for some slots. */
static struct {
	struct device base;
	uint32_t blocks, held[PLACES], of_slots;
	uint32_t shrunk;
	uint64_t promised;		     /* positions of others, when it was asked last */
	bool lies_badly;		     /* whoever has something finds nothing more */
	uint64_t asked, done, each, may_end; /* fills; so many of them and no more end */
	bool looks_fail;
	uint32_t looks; /* how often it was asked what has ended */
} script;

static uint32_t of_sequences(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < PLACES; i++)
		n += script.held[i];
	return n;
}

static int script_hold(struct device *d, uint32_t seq, uint32_t len, struct err *err)
{
	const uint32_t want = 1 + (uint32_t)div_ceil(len, PAGE);
	const uint32_t lacks = want > script.held[seq] ? want - script.held[seq] : 0;
	const uint32_t left = script.blocks > of_sequences() ? script.blocks - of_sequences() : 0;

	if (lacks > left || (lacks && script.lies_badly && script.held[seq]))
		return -EAGAIN;
	if (lacks + script.of_slots > left)
		return -ENOSPC;
	script.held[seq] += lacks;
	return 0;
}

static void script_let(struct device *d, uint32_t seq)
{
	script.held[seq] = 0;
}

static bool script_could_hold(const struct device *d, uint32_t len, uint32_t n, uint64_t positions)
{
	script.promised = positions;
	return 1 + div_ceil(len, PAGE) + of_sequences() <= script.blocks &&
	       n + div_ceil(positions, PAGE) + div_ceil(len, PAGE) + 1 <= script.blocks;
}

static uint32_t script_most_positions(const struct device *d, uint32_t seq)
{
	return (script.blocks - 1) * PAGE < CTX ? (script.blocks - 1) * PAGE : CTX;
}

static uint32_t script_slots(const struct device *d, uint32_t cls)
{
	return script.of_slots * OF_BLOCK;
}

static uint32_t script_victim(const struct device *d, uint32_t *ret_slots)
{
	*ret_slots = (script.of_slots - 1) * OF_BLOCK;
	return script.of_slots ? 0 : DEVICE_NO_CLASS;
}

static int script_shrink(struct device *d, uint32_t cls, struct err *err)
{
	script.of_slots--;
	script.shrunk++;
	return 0;
}

static uint32_t script_grow(struct device *d, uint64_t now)
{
	if (of_sequences() + script.of_slots >= script.blocks)
		return DEVICE_NO_CLASS;
	script.of_slots++;
	return 0;
}

static int script_fill(struct device *d, const struct device_fill *fill, struct err *err)
{
	script.asked++;
	return 0;
}

static int script_fills_done(struct device *d, uint64_t *ret_n, struct err *err)
{
	script.looks++;
	if (script.looks_fail)
		return -EIO;
	script.done = u64_min(u64_min(script.asked, script.may_end), script.done + script.each);
	*ret_n = script.done;
	return 0;
}

static int script_publish(struct device *d, struct err *err)
{
	return 0;
}

static const struct device_ops script_ops = { .hold = script_hold,
					      .let = script_let,
					      .could_hold = script_could_hold,
					      .most_positions = script_most_positions,
					      .slots = script_slots,
					      .victim = script_victim,
					      .shrink = script_shrink,
					      .grow = script_grow,
					      .fill = script_fill,
					      .fills_done = script_fills_done,
					      .publish = script_publish };

/* ---- an engine that only has places ---- */

static struct engine_rig all; /* model and disk */
static struct supply_rig host;
static struct engine e;
static struct request requests[PLACES];
static uint64_t no_spec[512]; /* as much of a struct spec as is read: no head */

static int setup(void **state)
{
	rig_open(&all);
	return 0;
}

static int teardown(void **state)
{
	rig_close(&all);
	return 0;
}

static void open_slots(uint32_t n)
{
	struct device_plan *p = &script.base.plan;
	const struct vram_config c = { .model = all.model,
				       .residency = host.residency,
				       .device = &script.base,
				       .split = node_split_one(),
				       .policy = "hit" };

	script.base.ops = &script_ops;
	script.base.c.model = all.model;
	script.base.c.n_ctx = CTX;
	script.base.fills = DEVICE_FILLS;
	script.base.table = device_new_table(all.model);
	script.of_slots = n;
	script.each = DEVICE_FILLS;
	p->n_classes = 1;
	p->classes = calloc(1, sizeof(*p->classes));
	p->class_of_layer = calloc(all.model->n_layers, sizeof(*p->class_of_layer));
	p->classes[0].experts = all.model->n_layers * all.model->n_expert;
	if (n)
		assert_int_equal(vram_create(&c, &e.vram, NULL), 0);
}

/* @blocks of memory, of which slots have @of_slots; pages for everybody. */
static void begin(uint32_t blocks, uint32_t of_slots)
{
	memset(&script, 0, sizeof(script));
	memset(&host, 0, sizeof(host));
	memset(&e, 0, sizeof(e));
	supply_open(&host, all.model, &all.disk, 1, 4, NULL);
	script.blocks = blocks;
	script.may_end = UINT64_MAX;
	open_slots(of_slots);
	e.device = &script.base;
	e.device_dense = true;
	e.config.n_parallel = PLACES;
	e.active = calloc(PLACES, sizeof(*e.active));
	e.in_step = calloc(PLACES, sizeof(*e.in_step));
	e.spec = (struct spec *)no_spec;
	assert_int_equal(seq_pool_create(all.model, PLACES, CTX, 0, KV_F16, &e.seqs, NULL), 0);
}

static void end(void)
{
	script.looks_fail = false;
	script.each = DEVICE_FILLS;
	script.may_end = UINT64_MAX;
	if (e.vram)
		assert_true(vram_drain(e.vram, 0));
	vram_destroy(e.vram);
	for (uint32_t i = 0; i < PLACES; i++)
		if (e.active[i].seq)
			seq_put(e.seqs, e.active[i].seq);
	seq_pool_destroy(e.seqs);
	free(e.active);
	free(e.in_step);
	free(script.base.table);
	device_plan_fini(&script.base.plan);
	supply_close(&host);
}

/* The next to come: a prompt of @n tokens. */
static struct active *seat(uint32_t i, uint32_t n)
{
	struct active *a = &e.active[i];

	requests[i] = (struct request){ .came = i, .n_tokens = n };
	*a = (struct active){
		.request = &requests[i], .seq = seq_get(e.seqs), .n_prompt = n, .n_ids = n
	};
	return a;
}

/* The step with @n tokens of @a, for which there is room, is over. */
static void step(struct active *a, uint32_t n)
{
	seq_advance(a->seq, n);
	memset(e.in_step, 0, PLACES * sizeof(*e.in_step));
}

static void read_some(struct active *a, uint32_t n)
{
	assert_int_equal(room_for(&e, a, n), n);
	step(a, n);
}

/* What could not help is not taken from slots, and who gets nothing keeps nothing. */
static void test_takes_nothing_in_vain(void **state)
{
	struct active *a, *b;

	begin(10, 4);
	a = seat(0, 300);
	read_some(a, 300); /* 6 blocks: slots have the other 4 */
	b = seat(1, 400);
	assert_int_equal(room_for(&e, b, 400), 0); /* 8 are not to be had beside them */
	assert_int_equal(script.shrunk, 0);
	assert_int_equal(script.held[1], 0);
	assert_false(b->paused || b->device_short);
	assert_int_equal(room_for(&e, b, 180), 180); /* 4 are */
	assert_int_equal(script.shrunk, 4);
	end();
}

/* Two come in one turn, both for the first time: who finds no room beside the other waits until it is gone. */
static void test_same_turn(void **state)
{
	for (uint32_t first = 0; first < 2; first++) {
		struct active *both[2], *a, *b;

		begin(8, 0);
		both[0] = seat(0, 300);
		both[1] = seat(1, 300);
		a = both[first];
		b = both[!first];
		assert_int_equal(room_for(&e, a, 300), 300);
		e.in_step[a - e.active] = true;
		assert_int_equal(seq_len(a->seq), 0);
		assert_int_equal(room_for(&e, b, 300), 0);
		assert_false(b->device_short || b->paused || e.is_short);
		step(a, 300);
		/* who came first goes on, the other one gives way or waits */
		assert_int_equal(room_for(&e, b, 300), first ? 300 : 0);
		assert_int_equal(a->paused, first == 1);
		assert_false(a->device_short || b->device_short);
		if (!first) {
			engine_device_let(&e, a);
			a->request = NULL;
			assert_int_equal(room_for(&e, b, 300), 300);
		}
		end();
	}
}

/* Two end in one turn: each is told what it was itself that did not fit. */
static void test_own_words(void **state)
{
	struct active *both[2];

	begin(6, 1);
	for (uint32_t i = 0; i < 2; i++) {
		both[i] = seat(i, 400 + i);
		assert_int_equal(room_for(&e, both[i], 10), 0);
	}
	assert_non_null(strstr(both[0]->short_note.text, "does not hold 400 positions"));
	assert_non_null(strstr(both[1]->short_note.text, "does not hold 401 positions"));
	end();
}

/* Who is longer than all that there is ends by name, at once, and nobody gives way for it. */
static void test_never_fits(void **state)
{
	struct active *a, *b;

	begin(6, 1);
	a = seat(1, 100);
	read_some(a, 100);
	b = seat(0, 400);
	assert_int_equal(room_for(&e, b, 10), 0); /* its first tokens would fit */
	assert_true(b->device_short && e.is_short);
	assert_non_null(strstr(b->short_note.text, "does not hold 400 positions"));
	assert_non_null(strstr(b->short_note.text, "320 at the most"));
	assert_non_null(strstr(b->short_note.text, "--device-budget"));
	assert_int_equal(b->short_error, -ENOSPC);
	assert_false(a->paused || e.memory_failed);
	assert_int_equal(script.shrunk, 0);
	assert_int_equal(script.held[seq_number(b->seq)], 0);
	/* one that decodes and has reached the end of it */
	e.is_short = false;
	read_some(a, 200);
	script.blocks = 5;
	assert_true(room_make(&e, a, 1)); /* what it has it keeps */
	step(a, 20);
	assert_false(room_make(&e, a, 1));
	assert_true(a->device_short && e.is_short);
	end();
}

/* Alone, with memory that lies badly: once more from the beginning, and by name where that was no use. */
static void test_begins_once_more(void **state)
{
	struct active *a, *b;

	begin(8, 0);
	a = seat(0, 300);
	read_some(a, 64);
	script.lies_badly = true;
	assert_int_equal(room_for(&e, a, 64), 0);
	assert_true(a->paused && !a->device_short);
	room_resume(&e);
	assert_false(a->paused);
	assert_int_equal(seq_len(a->seq), 0);
	read_some(a, 64);
	assert_int_equal(room_for(&e, a, 64), 0);
	assert_true(a->device_short && !a->paused);
	assert_non_null(strstr(a->short_note.text, "as it lies"));
	/* not where others had some in between */
	a->device_short = false;
	script.lies_badly = false;
	b = seat(1, 50);
	read_some(b, 50);
	read_some(a, 64);
	engine_device_let(&e, b);
	b->request = NULL;
	script.lies_badly = true;
	assert_int_equal(room_for(&e, a, 64), 0);
	assert_true(a->paused && !a->device_short);
	end();
}

/* Who was paused comes back when the device has room for it beside the others. */
static void test_resume(void **state)
{
	struct active *a, *b;

	begin(8, 1);
	a = seat(0, 300);
	b = seat(1, 200);
	read_some(b, 200);
	read_some(a, 300);
	assert_true(b->paused && !script.held[1]);
	room_resume(&e);
	assert_true(b->paused); /* it would be paused again at once */
	engine_device_let(&e, a);
	a->request = NULL;
	room_resume(&e);
	assert_false(b->paused);
	end();
}

/* Who comes is let in beside what others will have, not beside what they hold so far. */
static void test_seats_by_promises(void **state)
{
	struct active *a, *b;

	begin(8, 2);
	assert_true(room_to_seat(&e, 300)); /* alone */
	a = seat(0, 200);
	assert_true(room_to_seat(&e, 100)); /* 4 and 2 pages' blocks, with states 8 */
	assert_int_equal(script.promised, 201);
	assert_false(room_to_seat(&e, 200)); /* though nothing is held yet */
	b = seat(1, 100);
	b->paused = true; /* is promised nothing: it waits for its turn */
	engine_device_could_seat(&e, 100);
	assert_int_equal(script.promised, 201);
	read_some(a, 64);
	room_resume(&e);
	assert_false(b->paused);
	engine_device_could_seat(&e, 100);
	assert_int_equal(script.promised, 302);
	b->paused = true;
	a->n_ids = 300;
	room_resume(&e);
	assert_true(b->paused);
	end();
}

/* ---- fills of the slots that are wanted ---- */

static void load_host(void)
{
	const uint32_t n = all.model->n_layers * all.model->n_expert;

	for (uint32_t id = 0; id < n; id++) {
		assert_int_equal(residency_load(host.residency, id, READ_DEMAND), 0);
		while (!residency_landed(host.residency, id))
			usleep(20);
		residency_settle(host.residency);
		residency_unpin(host.residency, TIER_HOST, id);
	}
}

/* All slots but the last fills' are filled; these are under way. */
static void fill_slots(uint32_t blocks, uint32_t under_way)
{
	const uint32_t slots = blocks * OF_BLOCK;

	load_host();
	script.each = 1;
	for (int i = 0; i < 1000 && script.done + under_way < slots; i++)
		assert_int_equal(vram_boundary(e.vram, 0, now_ns(), NULL), 0);
	vram_issue_all(e.vram);
	script.each = 0;
	assert_int_equal(script.asked, slots);
	assert_int_equal(script.asked - script.done, under_way);
}

/* They end one by one: the step goes without, nobody reads anything again, and no fill begins meanwhile. */
static void test_slow_fills(void **state)
{
	struct active *a;
	int n = 0;

	begin(8, 6);
	fill_slots(6, 3);
	a = seat(0, 300);
	read_some(a, 64); /* of what is spare */
	script.each = 1;
	script.may_end = script.done + 1;
	while (!room_for(&e, a, 64) && n++ < 10) {
		assert_false(a->paused || a->device_short || e.is_short);
		assert_int_equal(vram_boundary(e.vram, 0, now_ns(), NULL), 0);
		assert_int_equal(script.asked, 6 * OF_BLOCK);
		script.may_end++;
	}
	assert_int_equal(n, 2);
	assert_int_equal(script.done, script.asked);
	assert_int_equal(script.shrunk, 1);
	assert_int_equal(seq_len(a->seq), 64);
	end();
}

/* It has read its prompt and computed one token. */
static void let_decode(struct active *a)
{
	a->n_done = a->n_prompt;
	a->n_ids = a->n_prompt + 1;
	assert_true(engine_decoding(a));
}

/* One who decodes is not in the step meanwhile, and a prompt beside it has its bite and no more. */
static void test_decoder_waits(void **state)
{
	uint32_t ids[PLACES][CTX + 1] = { { 0 } }, tokens[CTX], token_run[CTX], owners[PLACES];
	bool taken[PLACES], want[CTX];
	struct batch_run runs[PLACES];
	struct active *a, *reader;
	struct batch b;

	begin(8, 4);
	fill_slots(4, 3);
	a = seat(0, 64);
	read_some(a, 64);
	let_decode(a);
	reader = seat(1, 60);
	read_some(reader, 20); /* one page is enough for all of it */
	a->ids = ids[0];
	reader->ids = ids[1];
	reader->timed_ns = 1;
	e.tokens = tokens;
	e.token_run = token_run;
	e.run_owner = owners;
	e.runs = runs;
	e.taken = taken;
	e.want = want;
	e.config.n_batch = CTX;
	pace_init(&e.pace, 0, CTX);
	pace_learn(&e.pace, &(struct pace_step){ .n_decoding = 1, .n_all = 1, .ns = 1000000 });
	script.each = 1;
	script.may_end = script.done + 1;
	compose_step(&e, &b);
	assert_true(a->waits && !a->paused);
	assert_int_equal(e.n_decoding, 0);
	assert_int_equal(b.n_runs, 1);
	assert_int_equal(owners[0], 1);
	assert_int_equal(b.n_tokens, PACE_FIRST); /* of the 40 that it has left */
	step(reader, PACE_FIRST);
	script.may_end++;
	assert_false(room_make(&e, a, 1));
	assert_true(a->waits && !a->paused);
	script.may_end++;
	assert_true(room_make(&e, a, 1));
	assert_false(a->waits || a->paused);
	compose_step(&e, &b);
	assert_int_equal(e.n_decoding, 1);
	assert_int_equal(owners[0], 0);
	end();
}

/* Who waits for several blocks: those that are there already do not become slots again meanwhile. */
static void test_keeps_what_came(void **state)
{
	struct active *a;

	begin(8, 5);
	fill_slots(5, 3);
	a = seat(0, 300);
	read_some(a, 64);
	script.of_slots++; /* and no fill of them is under way yet */
	vram_grew(e.vram, 0);
	script.each = 1;
	script.may_end = script.done + 1;
	assert_int_equal(room_for(&e, a, 128), 0); /* two blocks */
	assert_int_equal(script.of_slots, 5);
	for (int i = 0; i < 2; i++) {
		engine_device_memory(&e);
		assert_int_equal(vram_boundary(e.vram, 0, now_ns(), NULL), 0);
		assert_int_equal(script.of_slots, 5);
		script.may_end++;
		assert_int_equal(room_for(&e, a, 128), i ? 128 : 0);
	}
	assert_int_equal(script.of_slots, 4);
	assert_int_equal(script.shrunk, 2);
	engine_device_let(&e, a); /* nobody waits: they are slots again */
	engine_device_memory(&e);
	assert_int_equal(script.of_slots, 8);
	end();
}

/* Those of other slots are not waited for. */
static void test_others_fills(void **state)
{
	struct active *a;
	uint64_t began;

	begin(8, 6);
	fill_slots(6, 2);
	script.each = 1;
	assert_int_equal(vram_withdraw(e.vram, 0, 6 * OF_BLOCK - 1), 0);
	began = script.done;
	assert_int_equal(began, 6 * OF_BLOCK); /* the last slot's is the last */
	script.each = 0;
	a = seat(0, 100);
	read_some(a, 64);
	end();
}

/*
 * They never end: a second is waited once, and then it is said by name. Looks are counted, since an
 * upper bound of a time would fail on a busy machine: who waits looks after each nap.
 */
static void test_stuck_fills(void **state)
{
	struct active *a, *b;
	uint64_t began;

	for (int broken = 0; broken < 2; broken++) {
		begin(8, 6);
		fill_slots(6, 3);
		a = seat(0, 300);
		b = seat(1, 300);
		read_some(a, 64);
		script.looks_fail = broken;
		script.looks = 0;
		began = now_ns();
		assert_int_equal(room_for(&e, b, 64), 0); /* it waits for a, not for them */
		assert_false(b->paused || b->device_short || e.memory_failed);
		if (broken)
			assert_int_equal(script.looks, 1);
		else
			assert_true(now_ns() - began > 900000000);
		b->request = NULL;
		script.looks = 0;
		assert_int_equal(room_for(&e, a, 64), 0);
		assert_int_equal(script.looks, 1);
		assert_true(a->device_short && e.memory_failed && !a->paused);
		assert_int_equal(a->short_error, -EIO);
		assert_non_null(strstr(a->short_note.text, "fills of its slots do not end"));
		assert_int_equal(script.shrunk, 0);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_takes_nothing_in_vain),
					    cmocka_unit_test(test_same_turn),
					    cmocka_unit_test(test_own_words),
					    cmocka_unit_test(test_never_fits),
					    cmocka_unit_test(test_begins_once_more),
					    cmocka_unit_test(test_resume),
					    cmocka_unit_test(test_seats_by_promises),
					    cmocka_unit_test(test_slow_fills),
					    cmocka_unit_test(test_decoder_waits),
					    cmocka_unit_test(test_keeps_what_came),
					    cmocka_unit_test(test_others_fills),
					    cmocka_unit_test(test_stuck_fills) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
