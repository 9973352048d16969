/* SPDX-License-Identifier: MIT */
/*
 * Description: dense weights arrive with the file's bytes, what a device has is let go and can be read again, those in
 * F32 that hold values of BF16 alone become that, a read that fails is a sentence, and a load that nobody wants any
 * more ends although the disk does not answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>

#include "base/num.h"
#include "engine/weights.h"
#include "kernels/quant.h"
#include "tests/unit/engine/engine_rig.h"

static struct engine_rig rig;
static struct reader *reader;
static struct weights *weights;
static _Atomic bool cancel;
static struct err err;

static int setup_in(struct arena *arena)
{
	struct reader_config rc = { .ops = &reader_memory, .ops_arg = &rig.disk, .depth = 3 };

	rig_open(&rig);
	atomic_store(&cancel, false);
	err_clear(&err);
	assert_int_equal(reader_create(rig.model->gguf, &rc, &reader, NULL), 0);
	return weights_create(rig.model, reader_align(reader), NULL, false, arena, &weights, NULL);
}

static int setup(void **state)
{
	return setup_in(NULL);
}

/* Memory in small pages: the weights of the rig are not many huge ones. */
static int setup_small(void **state)
{
	const struct arena_config c = { .bytes = 8 << 20, .best = ARENA_4K };
	struct arena *arena;

	assert_int_equal(arena_create(&c, &arena, NULL), 0);
	return setup_in(arena);
}

static int teardown(void **state)
{
	reader_destroy(reader);
	weights_destroy(weights);
	rig_close(&rig);
	return 0;
}

static int load(void)
{
	return weights_load(weights, rig.model, reader, rig.config.ops, &cancel, &err);
}

/* The rows of a matrix are those of its runs in the file, one after the other. */
static unsigned check_matrices(const struct weight *in_file, const struct layer_weights *loaded)
{
	unsigned n = 0;

	for (unsigned role = 0; role < ROLE_NR; role++) {
		const struct weight *w = &in_file[role];
		const uint8_t *at = loaded->w[role].data;

		if (!w->n_runs || role_info[role].kind != ROLE_MATRIX)
			continue;
		for (uint32_t i = 0; i < w->n_runs; i++) {
			uint64_t bytes = w->runs[i].rows * w->row_bytes;

			assert_memory_equal(at, rig.content + w->runs[i].offset, bytes);
			at += bytes;
		}
		n++;
	}
	return n;
}

static void test_load(void **state)
{
	unsigned n;

	if (load())
		fail_msg("%s", err.text);
	assert_int_equal(atomic_load(&weights->bytes_loaded), weights->bytes_total);
	n = check_matrices(rig.model->w, &weights->model);
	for (uint32_t i = 0; i < rig.model->n_layers; i++)
		n += check_matrices(rig.model->layers[i].w, &weights->layers[i]);
	assert_true(n > 2 * rig.model->n_layers);
}

/* Bytes of the whole pages that single matrices of @loaded have, which a device has and the host has let go. */
static uint64_t let_go(const struct layer_weights *loaded)
{
	const uint64_t page = arena_page_bytes(weights->arena);
	uint64_t bytes = 0;

	for (unsigned role = 0; role < ROLE_NR; role++) {
		const struct wmat *w = &loaded->w[role];
		const uintptr_t at = (uintptr_t)w->data,
				end = (at + w->row_bytes * w->n_out) / page * page;
		const uintptr_t first = align_up(at, page);

		if (!at || role_info[role].kind != ROLE_MATRIX ||
		    w->data == weights->model.w[ROLE_TOKEN_EMBD].data || end <= first)
			continue;
		bytes += end - first;
		for (uintptr_t i = first; i < end; i += 8)
			assert_int_equal(*(const uint64_t *)i, 0);
	}
	return bytes;
}

static void test_drop(void **state)
{
	const struct weight *embd = &rig.model->w[ROLE_TOKEN_EMBD];
	uint64_t bytes, alone = 0;

	assert_int_equal(load(), 0);
	bytes = weights_drop(weights, rig.model);
	for (uint32_t i = 0; i < rig.model->n_layers; i++)
		alone += let_go(&weights->layers[i]);
	alone += let_go(&weights->model);
	print_message("%llu of %llu bytes let go, of single matrices %llu\n",
		      (unsigned long long)bytes, (unsigned long long)weights->bytes_total,
		      (unsigned long long)alone);
	assert_true(alone > weights->bytes_total / 4);
	assert_true(bytes > alone &&
		    bytes < weights->bytes_total); /* pages that neighbours share too */
	/* rows of the embedding are read on the host */
	assert_memory_equal(weights->model.w[ROLE_TOKEN_EMBD].data,
			    rig.content + embd->runs[0].offset,
			    embd->runs[0].rows * embd->row_bytes);
	/* a device that is lost has nothing more: all of it from the file once more */
	assert_int_equal(load(), 0);
	check_matrices(rig.model->w, &weights->model);
	for (uint32_t i = 0; i < rig.model->n_layers; i++)
		check_matrices(rig.model->layers[i].w, &weights->layers[i]);
}

/* Every value of @w in the file is one of BF16 from now on. */
static void make_bf16(const struct weight *w)
{
	assert_int_equal(w->type, QUANT_F32);
	for (uint32_t i = 0; i < w->n_runs; i++) {
		uint8_t *at = rig.content + w->runs[i].offset;

		for (uint64_t k = 0; k < w->runs[i].rows * w->n_in; k++)
			memset(at + 4 * k, 0, 2);
	}
}

/* @loaded is BF16, with the values that @in_file has as F32 at @content. */
static void is_narrow(const struct wmat *loaded, const struct weight *in_file)
{
	const uint8_t *at = rig.content + in_file->runs[0].offset;

	assert_int_equal(loaded->type, QUANT_BF16);
	assert_int_equal(loaded->row_bytes, 2 * loaded->n_in);
	assert_int_equal(loaded->act, quant_format(QUANT_F32)->act);
	for (uint64_t k = 0; k < loaded->n_in * loaded->n_out; k++)
		assert_memory_equal(loaded->data + 2 * k, at + 4 * k + 2, 2);
}

static void test_narrow(void **state)
{
	const struct weight *router = &rig.model->layers[1].w[ROLE_ROUTER];
	const struct wmat *loaded = &weights->layers[1].w[ROLE_ROUTER];
	const struct wmat *other = &weights->layers[0].w[ROLE_ROUTER];

	const uint64_t other_values = rig.model->layers[0].w[ROLE_ROUTER].n_in *
				      rig.model->layers[0].w[ROLE_ROUTER].n_out;

	/* one value that is none of BF16 keeps a whole matrix, wherever it lies */
	make_bf16(router);
	make_bf16(&rig.model->layers[0].w[ROLE_ROUTER]);
	rig.content[rig.model->layers[0].w[ROLE_ROUTER].runs[0].offset + 4 * (other_values - 1)] =
		1;
	assert_int_equal(load(), 0);
	assert_int_equal(weights_narrow(weights, rig.model), 2 * loaded->n_in * loaded->n_out);
	is_narrow(loaded, router);
	assert_int_equal(other->type, QUANT_F32);
	check_matrices(rig.model->w, &weights->model);
	check_matrices(rig.model->layers[0].w, &weights->layers[0]);
	check_matrices(rig.model->layers[2].w, &weights->layers[2]);
	/* once more, and from the file once more */
	assert_int_equal(weights_narrow(weights, rig.model), 0);
	is_narrow(loaded, router);
	assert_int_equal(load(), 0);
	check_matrices(rig.model->layers[1].w, &weights->layers[1]);
}

/* A read of @run fails: the sentence names its file, its offset and the tensor. */
static void fails_at(const struct weight *w, uint32_t run)
{
	const struct weight_run *at = &w->runs[run];
	uint64_t middle = at->offset + at->rows * w->row_bytes / 2;
	char place[128];

	/* in the middle of it: aligned reads of its neighbours do not touch this */
	atomic_store(&rig.disk.bad_from, middle);
	atomic_store(&rig.disk.bad_to, middle + 1);
	atomic_store(&rig.disk.bad_times, UINT32_MAX);
	assert_int_equal(load(), -EIO);
	snprintf(place, sizeof(place), "offset %llu: tensor %s: ", (unsigned long long)at->offset,
		 w->name);
	if (!strstr(err.text, "dense weights") || !strstr(err.text, strerror(EIO)) ||
	    !strstr(err.text, RIG_MODEL + strlen("models/")) || !strstr(err.text, place))
		fail_msg("'%s' has no '%s'", err.text, place);
}

static void test_failed(void **state)
{
	fails_at(&rig.model->w[ROLE_TOKEN_EMBD], 0);
}

/* A vector, which is read through a buffer and waited for. */
static void test_failed_vector(void **state)
{
	fails_at(&rig.model->layers[1].w[ROLE_FFN_NORM], 0);
}

static void *release_later(void *arg)
{
	while (!atomic_load(&rig.disk.held))
		usleep(100);
	usleep(5000);
	atomic_store(&cancel, true);
	usleep(5000);
	reader_memory_release(&rig.disk);
	return NULL;
}

static void test_cancelled(void **state)
{
	pthread_t t;

	reader_memory_hold(&rig.disk);
	assert_int_equal(pthread_create(&t, NULL, release_later, NULL), 0);
	assert_int_equal(load(), -ECANCELED);
	pthread_join(t, NULL);
	assert_true(atomic_load(&weights->bytes_loaded) < weights->bytes_total);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_load, setup, teardown),
		cmocka_unit_test_setup_teardown(test_drop, setup_small, teardown),
		cmocka_unit_test_setup_teardown(test_narrow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_vector, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancelled, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
