/* SPDX-License-Identifier: MIT */
/*
 * Description: sequences to files and back: what follows a restored one has the tokens of a run that read it
 * all, in the same engine and in another; damaged files, those of others and bad names are refused; a
 * place that computes is waited for; what ends with the engine says so and leaves no file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "base/num.h"
#include "engine/saved.h"
#include "tests/unit/engine/engine_rig.h"

static struct engine_rig rig;
static char dir[] = "/tmp/sluice-test-saved.XXXXXX";

static int setup(void **state)
{
	rig_open(&rig);
	rig.config.prefix_cache = 64 << 20;
	assert_non_null(mkdtemp(dir));
	rig.config.save_path = dir;
	return 0;
}

static int n_files(void)
{
	DIR *d = opendir(dir);
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void path_of(char *ret, size_t room, const char *name)
{
	snprintf(ret, room, "%s/%s", dir, name);
}

static int teardown(void **state)
{
	static const char *const names[] = { "one", "two", "three", "bad", "room" };
	char path[64];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		path_of(path, sizeof(path), names[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(dir), 0); /* nothing else was left there */
	rig_close(&rig);
	return 0;
}

struct order {
	struct saved_ask ask;
	_Atomic int ended;
};

static void on_done(struct saved_ask *a)
{
	atomic_store(&((struct order *)a)->ended, 1);
}

static void begin(struct order *o, enum saved_kind kind, uint32_t place, const char *name)
{
	struct err err = { { 0 } };

	memset(o, 0, sizeof(*o));
	o->ask.kind = kind;
	o->ask.place = place;
	o->ask.done = on_done;
	snprintf(o->ask.name, sizeof(o->ask.name), "%s", name);
	if (engine_saved(rig.engine, &o->ask, &err))
		fail_msg("%s", err.text);
}

static int run(struct order *o, enum saved_kind kind, uint32_t place, const char *name)
{
	begin(o, kind, place, name);
	while (!atomic_load(&o->ended))
		usleep(500);
	return o->ask.error;
}

/* @n tokens by @seed, and @more of others behind them. */
static void prompt(struct ask *a, uint32_t n, uint32_t more, uint32_t max_tokens, uint32_t place)
{
	static struct ask tail;

	ask_prompt(a, &rig, n, max_tokens, 5);
	ask_prompt(&tail, &rig, more, 0, 99);
	memcpy(a->prompt + n, tail.prompt, more * sizeof(a->prompt[0]));
	a->request.n_tokens = n + more;
	a->request.place = place + 1;
}

static void answer(struct ask *a)
{
	ask_submit(a, &rig);
	ask_wait(a);
	assert_int_equal(a->result.stop, STOP_LENGTH);
}

static void test_there_and_back(void **state)
{
	static struct ask first, then, fresh;
	struct order o;
	uint32_t n;

	rig_start(&rig);
	prompt(&first, 300, 0, 9, 2);
	answer(&first);
	assert_int_equal(first.result.place, 3);
	assert_int_equal(run(&o, SAVED_SAVE, 2, "one"), 0);
	n = o.ask.n_tokens;
	assert_int_equal(n, 308); /* the last token was never read */
	assert_int_equal(n_files(), 1);
	/* forgotten, it is not known any more; restored, it is */
	assert_int_equal(run(&o, SAVED_ERASE, 2, ""), 0);
	assert_int_equal(o.ask.n_tokens, n);
	assert_int_equal(run(&o, SAVED_SAVE, 2, "two"), -ENOENT);
	prompt(&fresh, 300, 40, 20, 0);
	memcpy(fresh.prompt + 300, first.tokens, 8 * sizeof(first.tokens[0]));
	fresh.request.no_reuse = true;
	then = fresh;
	answer(&fresh);
	then.request.tokens = then.prompt;
	then.request.no_reuse = false;
	assert_int_equal(run(&o, SAVED_RESTORE, 1, "one"), 0);
	assert_int_equal(o.ask.n_tokens, n);
	answer(&then);
	assert_int_equal(then.result.n_cached, n);
	assert_memory_equal(then.tokens, fresh.tokens, 20 * sizeof(fresh.tokens[0]));
	/* the place has it now */
	assert_int_equal(run(&o, SAVED_SAVE, 1, "two"), 0);
	assert_int_equal(o.ask.n_tokens, n);
	rig_stop(&rig);

	/* another engine; in a place that is not the file's */
	rig_start(&rig);
	assert_int_equal(run(&o, SAVED_RESTORE, 3, "two"), 0);
	prompt(&then, 300, 40, 20, 0);
	memcpy(then.prompt + 300, first.tokens, 8 * sizeof(first.tokens[0]));
	answer(&then);
	assert_int_equal(then.result.n_cached, n);
	assert_memory_equal(then.tokens, fresh.tokens, 20 * sizeof(fresh.tokens[0]));
	rig_stop(&rig);
}

/* Of users each their own, in memory and in files. */
static void test_owners(void **state)
{
	static struct ask first, then;
	struct order o;

	rig_start(&rig);
	prompt(&first, 200, 0, 5, 0);
	first.request.tenant = 7;
	answer(&first);
	assert_int_equal(run(&o, SAVED_ERASE, 0, ""), 0); /* by another: not its own, it stays */
	assert_int_equal(o.ask.n_tokens, 0);
	assert_int_equal(run(&o, SAVED_SAVE, 0, "two"), -ENOENT);
	memset(&o, 0, sizeof(o));
	o.ask = (struct saved_ask){
		.kind = SAVED_SAVE, .tenant = 7, .owner = 77, .name = "two", .done = on_done
	};
	assert_int_equal(engine_saved(rig.engine, &o.ask, NULL), 0);
	while (!atomic_load(&o.ended))
		usleep(500);
	/* the file of that name is another's, and stays */
	assert_int_equal(o.ask.error, -EACCES);
	assert_non_null(strstr(o.ask.err.text, "another key"));
	assert_int_equal(run(&o, SAVED_RESTORE, 1, "two"), 0);
	memset(&o, 0, sizeof(o));
	o.ask = (struct saved_ask){
		.kind = SAVED_SAVE, .tenant = 7, .owner = 77, .name = "three", .done = on_done
	};
	assert_int_equal(engine_saved(rig.engine, &o.ask, NULL), 0);
	while (!atomic_load(&o.ended))
		usleep(500);
	assert_int_equal(o.ask.error, 0);
	assert_int_equal(run(&o, SAVED_RESTORE, 0, "three"), -EACCES);
	assert_non_null(strstr(o.ask.err.text, "another key"));
	/* restored for user 8 it is no help to user 7 */
	assert_int_equal(run(&o, SAVED_RESTORE, 0, "one"), 0);
	prompt(&then, 300, 20, 1, 0);
	then.request.tenant = 7;
	answer(&then);
	assert_in_range(then.result.n_cached, 0, 204);
	rig_stop(&rig);
}

static void copy_with(size_t at, int cut, uint8_t flip)
{
	char from[64], to[64];
	FILE *in, *out;
	size_t i = 0;
	int c;

	path_of(from, sizeof(from), "one");
	path_of(to, sizeof(to), "bad");
	in = fopen(from, "rb");
	out = fopen(to, "wb");
	while ((c = fgetc(in)) != EOF && (cut < 0 || i < (size_t)cut)) {
		fputc(i == at ? c ^ flip : c, out);
		i++;
	}
	fclose(in);
	fclose(out);
}

/* A sparse file may say that it has any number of tokens: no memory is taken for them. */
static void check_huge(void)
{
	uint32_t n_tokens = 0xfffffff0;
	struct order o;
	char path[64];
	int fd;

	copy_with(SIZE_MAX, 144, 0);
	path_of(path, sizeof(path), "bad");
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, &n_tokens, sizeof(n_tokens), 48), sizeof(n_tokens));
	assert_int_equal(ftruncate(fd, (off_t)17 << 30), 0);
	close(fd);
	assert_int_equal(run(&o, SAVED_RESTORE, 0, "bad"), -E2BIG);
	assert_non_null(strstr(o.ask.err.text, "--ctx"));
}

static void test_damaged(void **state)
{
	static const size_t places[] = { 0,  8,	 12,  16,  24,	 32,   40,   48,    52,
					 56, 72, 136, 144, 1300, 1376, 9000, 500000 };
	static const int cuts[] = { 0, 1, 143, 144, 700, 1400, 100000 };
	struct order o;

	rig_start(&rig);
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		copy_with(places[i], -1, 0x21);
		assert_int_not_equal(run(&o, SAVED_RESTORE, 0, "bad"), 0);
		assert_non_null(strstr(o.ask.err.text, "bad"));
	}
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		copy_with(SIZE_MAX, cuts[i], 0);
		assert_int_equal(run(&o, SAVED_RESTORE, 0, "bad"), -EBADMSG);
	}
	check_huge();
	assert_int_equal(run(&o, SAVED_RESTORE, 0, "none"), -ENOENT);
	assert_int_equal(run(&o, SAVED_RESTORE, 0, "one"), 0);
	rig_stop(&rig);
}

static void test_refused(void **state)
{
	static const char *const names[] = {
		"", ".", "..", ".x", "a/b", "/etc/passwd", "a b", "a\n"
	};
	struct saved_ask a = { .kind = SAVED_SAVE, .done = on_done };
	struct err err = { { 0 } };

	rig_start(&rig);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(a.name, sizeof(a.name), "%s", names[i]);
		assert_int_equal(engine_saved(rig.engine, &a, NULL), -EINVAL);
	}
	snprintf(a.name, sizeof(a.name), "one");
	a.place = 4;
	assert_int_equal(engine_saved(rig.engine, &a, &err), -EINVAL);
	assert_non_null(strstr(err.text, "0 to 3"));
	rig_stop(&rig);
	rig.config.save_path = NULL;
	rig_start(&rig);
	a.place = 0;
	assert_int_equal(engine_saved(rig.engine, &a, NULL), -ENOTSUP);
	rig_stop(&rig);
	rig.config.save_path = "/tmp/there/is/none";
	assert_int_equal(engine_create(&rig.config, rig.model, rig.tokenizer, &rig.engine, &err),
			 -ENOENT);
	rig.engine = NULL;
	rig.config.save_path = dir;
}

/* One thing after the other that a file may be of and that is not here, or says of itself and cannot be. */
static void test_of_another_kind(void **state)
{
	static const uint32_t ids[] = { 5, 6, 7 };
	static const struct saved_point end[] = { { 3, 0 } }, none[] = { { 2, 0 } };
	static uint8_t data[64];
	const struct iovec part = { data, sizeof(data) };
	const struct saved_shape here = { .model = 1,
					  .owner = 2,
					  .page_bytes = 48,
					  .state_bytes = 16,
					  .n_ctx = 4,
					  .n_vocab = 8,
					  .level = "scalar",
					  .program = "1.0" };
	struct {
		struct saved_shape shape;
		int error;
		const char *word;
	} rows[] = {
		{ here, 0, NULL },
		{ here, -EINVAL, "of another model" },
		{ here, -EACCES, "another key" },
		{ here, -EINVAL, "--kv-type" },
		{ here, -EINVAL, "--kv-type" },
		{ here, -EINVAL, "--kv-type" },
		{ here, -EINVAL, "CPU level scalar, this is avx2" },
		{ here, -EINVAL, "by sluiced 1.0, this is 1.1" },
		{ here, -E2BIG, "has 3 tokens, the context holds 2" },
		{ here, -EBADMSG, "damaged" },
	};
	const struct saved_text whole = { ids, end, 3, 1 }, no_end = { ids, none, 3, 1 };
	const _Atomic bool stop = false;
	struct saved_file f;
	struct err err;
	uint64_t bytes;
	char path[64];
	int fd = open(dir, O_RDONLY | O_DIRECTORY);

	rows[1].shape.model = 9;
	rows[2].shape.owner = 9;
	rows[3].shape.kv_type = 1;
	rows[4].shape.page_bytes = 32;
	rows[5].shape.state_bytes = 32;
	rows[6].shape.level = "avx2";
	rows[7].shape.program = "1.1";
	rows[8].shape.n_ctx = 2;
	rows[9].shape.n_vocab = 7;
	path_of(path, sizeof(path), "bad");
	unlink(path);
	assert_int_equal(saved_write(fd, "bad", &here, &whole, &part, 1, &stop, &bytes, &err), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		err_clear(&err);
		assert_int_equal(saved_open(fd, "bad", &rows[i].shape, &f, &err), rows[i].error);
		if (rows[i].word && !strstr(err.text, rows[i].word))
			fail_msg("row %zu: %s", i, err.text);
		if (!rows[i].error)
			saved_close(&f);
	}
	/* no state at its end: nothing could go on from there */
	assert_int_equal(saved_write(fd, "bad", &here, &no_end, &part, 1, &stop, &bytes, &err), 0);
	assert_int_equal(saved_open(fd, "bad", &here, &f, &err), -EBADMSG);
	/* where nothing can be written */
	close(fd);
	err_clear(&err);
	fd = open("/proc/self", O_RDONLY | O_DIRECTORY);
	assert_int_not_equal(saved_write(fd, "bad", &here, &whole, &part, 1, &stop, &bytes, &err),
			     0);
	assert_non_null(strstr(err.text, "cannot be written"));
	close(fd);
}

/* A place that computes: its end is waited for; with the engine's end all end. */
static void test_waits(void **state)
{
	static struct ask first, second;
	static struct order many[16];
	struct order o, other;

	rig_start(&rig);
	prompt(&first, 100, 0, 60, 1);
	prompt(&second, 100, 0, 900, 1);
	ask_submit(&first, &rig);
	while (!atomic_load(&first.n_tokens))
		usleep(200);
	begin(&o, SAVED_SAVE, 1, "two");
	ask_submit(&second, &rig);
	while (!atomic_load(&o.ended))
		usleep(500);
	assert_int_equal(o.ask.error, 0);
	assert_int_equal(o.ask.n_tokens, 159);
	assert_true(atomic_load(&first.ended));
	while (!atomic_load(&second.n_tokens))
		usleep(200);
	/* so many may wait and no more */
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		begin(&many[i], SAVED_ERASE, 1, "");
	memset(&other, 0, sizeof(other));
	other.ask = (struct saved_ask){ .kind = SAVED_ERASE, .place = 1, .done = on_done };
	assert_int_equal(engine_saved(rig.engine, &other.ask, NULL), -EBUSY);
	rig_stop(&rig);
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		assert_true(atomic_load(&many[i].ended));
		assert_int_equal(many[i].ask.error, -ESHUTDOWN);
	}
	assert_false(atomic_load(&other.ended));
	assert_int_equal(n_files(), 4);
}

/* Files that wait for the disk hold the pages; who has to wait for room may ask again, which is no fault of the daemon. */
static void test_no_room(void **state)
{
	static struct ask one;
	static struct order many[12];
	uint64_t cache = rig.config.prefix_cache;
	int n_busy = 0;

	rig.config.prefix_cache = 1 << 20;
	rig_start(&rig);
	prompt(&one, 100, 400, 60, 1);
	answer(&one);
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		begin(&many[i], SAVED_SAVE, 1, "room");
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		while (!atomic_load(&many[i].ended))
			usleep(500);
		n_busy += many[i].ask.error == -EBUSY;
		assert_true(!many[i].ask.error || many[i].ask.error == -EBUSY);
	}
	assert_true(n_busy > 0 && n_busy < (int)ARRAY_LEN(many));
	rig_stop(&rig);
	rig.config.prefix_cache = cache;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),	cmocka_unit_test(test_owners),
		cmocka_unit_test(test_damaged),		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_of_another_kind), cmocka_unit_test(test_waits),
		cmocka_unit_test(test_no_room),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
