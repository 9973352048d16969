/* SPDX-License-Identifier: MIT */
/*
 * Description: a model's identity: the same for a copy elsewhere, another where a weight, a key or the
 * vocabulary differs, and an error where a file was cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/gguf.h"
#include "model/identity.h"

#define MODEL "models/demo-moe-q4_k_m.gguf"

static char path[] = "/tmp/sluice-test-identity.XXXXXX";
static uint8_t *content;
static size_t bytes;

static int setup(void **state)
{
	FILE *f = fopen(MODEL, "rb");
	long n;

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	bytes = (size_t)n;
	content = malloc(bytes);
	assert_int_equal(fread(content, 1, bytes, f), bytes);
	fclose(f);
	n = mkstemp(path);
	assert_true(n >= 0);
	close((int)n);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	free(content);
	return 0;
}

static uint64_t identity_of(const char *file)
{
	struct err err = { { 0 } };
	struct gguf *g;
	uint64_t id = 0;

	if (gguf_open(file, &g, &err) || model_identity(g, NULL, &id, &err))
		fail_msg("%s", err.text);
	gguf_destroy(g);
	return id;
}

static void write_copy(void)
{
	FILE *f = fopen(path, "wb");

	assert_int_equal(fwrite(content, 1, bytes, f), bytes);
	assert_int_equal(fclose(f), 0);
}

static uint64_t identity_with(size_t at)
{
	uint64_t id;

	content[at] ^= 1;
	write_copy();
	content[at] ^= 1;
	id = identity_of(path);
	return id;
}

static void test_what_counts(void **state)
{
	static const char text[] = "tokenizer.ggml.tokens", rope[] = "rope.freq_base";
	static const char kinds[] = "tokenizer.ggml.token_type";
	uint64_t whole = identity_of(MODEL), step;
	const uint8_t *at = memmem(content, bytes, rope, strlen(rope));
	struct err err = { { 0 } };
	struct gguf *g;

	write_copy();
	assert_int_equal(identity_of(path), whole);
	assert_int_equal(gguf_open(MODEL, &g, &err), 0);
	step = gguf_n_tensors(g) / 7 + 1;
	for (uint64_t i = 0; i < gguf_n_tensors(g); i += step) {
		const struct gguf_tensor *t = gguf_tensor(g, i);

		assert_int_not_equal(identity_with(t->offset + t->bytes / 2), whole);
	}
	gguf_destroy(g);
	/* behind the name: the type of the value (4 bytes), then its bytes, down to the last bit */
	if (at)
		assert_int_not_equal(identity_with((size_t)(at - content) + strlen(rope) + 4),
				     whole);
	if (at)
		assert_int_not_equal(identity_with((size_t)(at - content) + strlen(rope) + 4 + 2),
				     whole);
	at = memmem(content, bytes, text, strlen(text));
	assert_non_null(at);
	/* type, element type, count, then strings: a length of 8 bytes and the first token */
	assert_int_not_equal(identity_with((size_t)(at - content) + strlen(text) + 16 + 8), whole);
	/* types of tokens: a long array of numbers, far from its beginning */
	at = memmem(content, bytes, kinds, strlen(kinds));
	assert_non_null(at);
	assert_int_not_equal(identity_with((size_t)(at - content) + strlen(kinds) + 16 + 4 * 200),
			     whole);
}

static void test_cut(void **state)
{
	const _Atomic bool stop = true;
	struct err err = { { 0 } };
	struct gguf *g;
	uint64_t id;

	write_copy();
	assert_int_equal(gguf_open(path, &g, &err), 0);
	assert_int_equal(truncate(path, (off_t)(bytes - bytes / 4)), 0);
	assert_int_equal(model_identity(g, &stop, &id, &err), -ESHUTDOWN);
	err_clear(&err);
	assert_int_equal(model_identity(g, NULL, &id, &err), -ENODATA);
	assert_non_null(strstr(err.text, "tensor "));
	gguf_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_counts),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
