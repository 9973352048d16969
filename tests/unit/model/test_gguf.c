/* SPDX-License-Identifier: MIT */
/*
 * Description: the GGUF reader: fixtures, values of every type, headers cut and spoilt at every
 * byte. The full list of refusals is tests/e2e/test_bad_gguf.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <sys/resource.h>

#include "tests/unit/data.h"
#include "tests/unit/model/gguf_build.h"

static struct gguf *open_fixture(const char *name)
{
	struct err err = { 0 };
	struct gguf *g = NULL;
	char path[DATA_PATH];

	if (gguf_open(fixture(name, path), &g, &err))
		fail_msg("%s", err.text);
	return g;
}

static void test_fixture(void **state)
{
	struct gguf *g = open_fixture("moe/moe-q4_k_m.gguf");
	const struct gguf_tensor *t;
	struct gguf_str s;
	enum gguf_type type;
	uint64_t n;
	int64_t v;
	float f;
	bool b;

	assert_int_equal(gguf_n_tensors(g), 76);
	assert_int_equal(gguf_n_files(g), 1);
	assert_int_equal(gguf_version(g), 3);
	t = gguf_find(g, "blk.0.ffn_down_exps.weight");
	assert_non_null(t);
	assert_int_equal(t->n_dims, 3);
	assert_int_equal(t->ne[0], 256);
	assert_int_equal(t->ne[2], 32);
	assert_int_equal(t->ne[3], 1);
	assert_int_equal(t->offset % 32, 0);
	assert_ptr_equal(gguf_tensor(g, gguf_tensor_index(g, t)), t);
	assert_null(gguf_find(g, "blk.0.ffn_down_exps"));
	assert_int_equal(gguf_str(g, "general.architecture", &s, NULL), 0);
	assert_int_equal(s.len, 9);
	assert_memory_equal(s.data, "qwen35moe", 9);
	assert_int_equal(gguf_f32(g, "qwen35moe.rope.freq_base", &f, NULL), 0);
	assert_true(f == 1e7f);
	assert_int_equal(gguf_array(g, "qwen35moe.attention.recurrent_layers", &type, &n, NULL), 0);
	assert_int_equal(type, GGUF_BOOL);
	assert_int_equal(n, 4);
	assert_int_equal(gguf_array_i64(g, "qwen35moe.attention.recurrent_layers", 3, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(gguf_array(g, "tokenizer.ggml.tokens", &type, &n, NULL), 0);
	assert_int_equal(n, 2048);
	assert_int_equal(gguf_array_str(g, "tokenizer.ggml.tokens", 2038, &s), 0);
	assert_memory_equal(s.data, "<|im_end|>", 10);
	assert_int_equal(gguf_array_str(g, "tokenizer.ggml.tokens", 2048, &s), -EINVAL);
	assert_int_equal(gguf_bool(g, "no.such.key", &b, NULL), -ENOENT);
	gguf_destroy(g);
}

static void test_split(void **state)
{
	struct gguf *g = open_fixture("dense/split/dense-q4_k_m-00001-of-00003.gguf");
	struct gguf *whole = open_fixture("dense/dense-q4_k_m.gguf");
	uint64_t n;

	assert_int_equal(gguf_n_files(g), 3);
	assert_int_equal(gguf_n_tensors(g), 55);
	for (uint64_t i = 0; i < 55; i++) {
		const struct gguf_tensor *a = gguf_tensor(g, i);
		const struct gguf_tensor *b = gguf_find(whole, a->name);
		uint8_t x[64], y[64];

		assert_non_null(b);
		assert_int_equal(a->bytes, b->bytes);
		n = u64_min(a->bytes, sizeof(x));
		assert_int_equal(pread(gguf_file(g, a->file)->fd, x, n, (off_t)a->offset), n);
		assert_int_equal(pread(gguf_file(whole, 0)->fd, y, n, (off_t)b->offset), n);
		assert_memory_equal(x, y, n);
	}
	assert_int_equal(gguf_tensor(g, 54)->file, 2);
	gguf_destroy(g);
	gguf_destroy(whole);
}

static void test_vocabulary(void **state)
{
	struct gguf *g = open_fixture("tokenizer/qwen-vocab.gguf");
	enum gguf_type type;
	uint64_t n;

	assert_int_equal(gguf_n_tensors(g), 0);
	assert_int_equal(gguf_array(g, "tokenizer.ggml.merges", &type, &n, NULL), 0);
	assert_int_equal(n, 151387);
	gguf_destroy(g);
}

/* A header with one of everything. */
static void build_all_types(struct gguf_build *b)
{
	const uint8_t u8 = 200, yes = 1;
	const int8_t i8 = -5;
	const uint16_t u16 = 60000;
	const int16_t i16 = -300;
	const int32_t i32 = -70000;
	const uint64_t u64 = 1ull << 40;
	const int64_t i64 = -(1ll << 40);
	const double f64 = 0.25, large = 1e300;

	add_key(b, "u8", GGUF_U8, &u8, 1);
	add_key(b, "i8", GGUF_I8, &i8, 1);
	add_key(b, "u16", GGUF_U16, &u16, 2);
	add_key(b, "i16", GGUF_I16, &i16, 2);
	add_u32(b, "u32", 4000000000u);
	add_key(b, "i32", GGUF_I32, &i32, 4);
	add_f32(b, "f32", 1.5f);
	add_key(b, "bool", GGUF_BOOL, &yes, 1);
	add_text(b, "text", "gr\xc3\xbc\xc3\x9f\n!");
	add_key(b, "u64", GGUF_U64, &u64, 8);
	add_key(b, "i64", GGUF_I64, &i64, 8);
	add_key(b, "f64", GGUF_F64, &f64, 8);
	add_key(b, "large", GGUF_F64, &large, 8);
	add_f32(b, "nan", NAN);
	put(add_array(b, "ints", GGUF_I16, 2), (int16_t[]){ -1, 7 }, 4);
	put(add_array(b, "floats", GGUF_F32, 2), (float[]){ 0.5f, 2 }, 8);
	put_text(add_array(b, "texts", GGUF_STRING, 2), "one");
	put_text(&b->keys, "");
	add_array(b, "nothing", GGUF_STRING, 0);
	add_tensor(b, "a.weight", QUANT_F32, 5, 3, 1);
	add_tensor(b, "b.weight", QUANT_Q4_K, 512, 2, 4);
}

static void test_values(void **state)
{
	struct gguf_build b = { 0 };
	struct err err = { 0 };
	struct gguf *g;
	struct gguf_str s;
	char buf[100];
	uint32_t u;
	uint64_t w;
	int64_t i;
	double d;
	float f;
	bool flag;

	build_all_types(&b);
	save(&b);
	assert_int_equal(gguf_open(b.path, &g, &err), 0);
	assert_true(!gguf_u32(g, "u8", &u, NULL) && u == 200);
	assert_true(!gguf_u32(g, "u16", &u, NULL) && u == 60000);
	assert_true(!gguf_u32(g, "u32", &u, NULL) && u == 4000000000u);
	assert_true(!gguf_u64(g, "u64", &w, NULL) && w == 1ull << 40);
	assert_int_equal(gguf_u32(g, "u64", &u, NULL), -EINVAL);
	assert_int_equal(gguf_u32(g, "i8", &u, NULL), -EINVAL);
	assert_int_equal(gguf_u64(g, "i64", &w, &err), -EINVAL);
	assert_non_null(strstr(err.text, "key i64: the value is out of range"));
	err_clear(&err);
	assert_int_equal(gguf_u32(g, "bool", &u, NULL), -EINVAL);
	assert_int_equal(gguf_u32(g, "f32", &u, &err), -EINVAL);
	assert_non_null(strstr(err.text, "key f32 has type f32, not an integer"));
	assert_true(!gguf_f32(g, "f32", &f, NULL) && f == 1.5f);
	assert_true(!gguf_f32(g, "f64", &f, NULL) && f == 0.25f);
	assert_int_equal(gguf_f32(g, "large", &f, NULL), -EINVAL);
	assert_int_equal(gguf_f32(g, "nan", &f, NULL), -EINVAL);
	assert_int_equal(gguf_f32(g, "u8", &f, NULL), -EINVAL);
	assert_true(!gguf_bool(g, "bool", &flag, NULL) && flag);
	assert_int_equal(gguf_bool(g, "u8", &flag, NULL), -EINVAL);
	assert_int_equal(gguf_str(g, "u8", &s, NULL), -EINVAL);
	assert_true(!gguf_array_i64(g, "ints", 0, &i) && i == -1);
	assert_true(!gguf_array_i64(g, "ints", 1, &i) && i == 7);
	assert_int_equal(gguf_array_i64(g, "ints", 2, &i), -EINVAL);
	assert_int_equal(gguf_array_i64(g, "floats", 0, &i), -EINVAL);
	assert_int_equal(gguf_array_i64(g, "texts", 0, &i), -EINVAL);
	assert_int_equal(gguf_array_i64(g, "u8", 0, &i), -EINVAL);
	assert_true(!gguf_array_f64(g, "floats", 1, &d) && d == 2);
	assert_true(!gguf_array_str(g, "texts", 0, &s) && s.len == 3);
	assert_true(!gguf_array_str(g, "texts", 1, &s) && s.len == 0);
	assert_int_equal(gguf_array_str(g, "nothing", 0, &s), -EINVAL);
	assert_string_equal(gguf_key_text(g, 1, buf, sizeof(buf)), "-5");
	assert_string_equal(gguf_key_text(g, 8, buf, sizeof(buf)), "gr\xc3\xbc\xc3\x9f?!");
	assert_string_equal(gguf_key_text(g, 14, buf, sizeof(buf)), "-1, 7");
	assert_string_equal(gguf_key_text(g, 14, buf, 4), "-1,");
	assert_string_equal(gguf_key_text(g, 16, buf, sizeof(buf)), "2 x string");
	assert_int_equal(gguf_find(g, "b.weight")->bytes, 8 * 288);
	assert_int_equal(gguf_find(g, "b.weight")->offset - gguf_find(g, "a.weight")->offset, 64);
	gguf_destroy(g);
	build_fini(&b);
}

/* Values are checked when they are asked for, and shown with '?' whatever they are. */
static void test_unused_values(void **state)
{
	struct gguf_build b = { 0 };
	struct err err = { 0 };
	struct gguf_str s;
	struct gguf *g;
	char buf[100];
	int64_t v;
	bool flag;

	add_key(&b, "latin1", GGUF_STRING, "\4\0\0\0\0\0\0\0Jos\xe9", 12);
	add_key(&b, "nul", GGUF_STRING, "\3\0\0\0\0\0\0\0a\0b", 11);
	add_key(&b, "truth", GGUF_BOOL, "\2", 1);
	put(add_array(&b, "truths", GGUF_BOOL, 2), "\1\3", 2);
	add_text(&b, "c1", "a\xc2\x9b\x7f\x1b z\xc2\xa0");
	save(&b);
	assert_int_equal(gguf_open(b.path, &g, &err), 0);
	assert_int_equal(gguf_str(g, "latin1", &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "key latin1: the text is not UTF-8"));
	err_clear(&err);
	assert_int_equal(gguf_str(g, "nul", &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "key nul: the text contains a NUL byte"));
	err_clear(&err);
	assert_int_equal(gguf_bytes(g, "nul", &s, &err), 0);
	assert_int_equal(s.len, 3);
	assert_int_equal(gguf_bool(g, "truth", &flag, &err), -EINVAL);
	assert_non_null(strstr(err.text, "key truth: a bool is 2, neither 0 nor 1"));
	assert_true(!gguf_array_i64(g, "truths", 0, &v) && v == 1);
	assert_int_equal(gguf_array_i64(g, "truths", 1, &v), -EINVAL);
	assert_string_equal(gguf_key_text(g, 0, buf, sizeof(buf)), "Jos?");
	assert_string_equal(gguf_key_text(g, 1, buf, sizeof(buf)), "a?b");
	assert_string_equal(gguf_key_text(g, 4, buf, sizeof(buf)), "a??? z\xc2\xa0");
	gguf_destroy(g);
	build_fini(&b);
}

/* A file whose data end after @more bytes instead of where they should; @tail follows. */
static void open_with(const struct bytes *head, uint64_t more, const char *tail, const char *words)
{
	struct gguf_build b = { 0 };
	struct err err = { 0 };
	struct gguf *g = NULL;
	int rc;

	save_bytes(&b, head->data, head->len, more);
	assert_int_equal(pwrite(b.fd, tail, strlen(tail), (off_t)(head->len + more)), strlen(tail));
	if (!strcmp(tail, "GGUF")) /* with its version */
		assert_int_equal(pwrite(b.fd, "\3\0\0\0", 4, (off_t)(head->len + more + 4)), 4);
	rc = gguf_open(b.path, &g, &err);
	assert_int_equal(rc, words ? -EINVAL : 0);
	if (words && !strstr(err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", err.text, words);
	gguf_destroy(g);
	build_fini(&b);
}

/* Cut short, going on with another GGUF file, going on with anything else. */
static void test_ends(void **state)
{
	struct gguf_build b = { 0 };
	struct bytes head;
	uint64_t pad;

	add_tensor(&b, "a.weight", QUANT_F32, 1000, 1000, 1);
	add_tensor(&b, "b.weight", QUANT_F32, 1000, 1000, 4);
	add_tensor(&b, "c.weight", QUANT_F32, 5, 1, 1);
	head = header_of(&b);
	pad = align_up(head.len, 32) - head.len;
	open_with(&head, pad + 20000020, "", NULL);
	open_with(&head, pad + 20000032, "", NULL);
	open_with(&head, pad + 20000020, "other bytes", NULL);
	open_with(&head, pad + 20000020, "GGUF", "another GGUF file begins here");
	open_with(&head, pad + 20000032, "GGUF", "another GGUF file begins here");
	open_with(&head, pad + 20000019, "",
		  "with 20.0 of 20.0 MB (missing: 1 bytes, from tensor c.weight on)");
	open_with(&head, pad + 8000000, "", "with 8.0 of 20.0 MB");
	open_with(&head, pad + 8000000, "", "from tensor b.weight on");
	open_with(&head, 0, "", "from tensor a.weight on");
	head.data[8] = 2; /* of three tensors */
	open_with(&head, pad + 20000032, "", "goes on with tensor c.weight behind the 2");
	free(head.data);
	build_fini(&b);
}

/* Cut anywhere: refused with the file and an offset. */
static void test_cut_everywhere(void **state)
{
	struct gguf_build b = { 0 }, cut = { 0 };
	struct bytes head;

	build_all_types(&b);
	head = header_of(&b);
	for (size_t len = 0; len < head.len; len++) {
		struct err err = { 0 };
		struct gguf *g = NULL;

		save_bytes(&cut, head.data, len, 0);
		assert_int_equal(gguf_open(cut.path, &g, &err), -EINVAL);
		assert_null(g);
		assert_non_null(strstr(err.text, ": offset "));
		build_fini(&cut);
	}
	free(head.data);
	build_fini(&b);
}

/* Every byte spoilt in several ways: opened or refused, never worse. Descriptors are closed. */
static void test_spoilt_everywhere(void **state)
{
	static const uint8_t masks[] = { 0x01, 0x80, 0xff, 0x7f, 0x20 };
	struct gguf_build b = { 0 }, one = { 0 };
	struct bytes head;
	unsigned refused = 0;

	build_all_types(&b);
	head = header_of(&b);
	for (size_t at = 0; at < head.len; at++) {
		for (unsigned m = 0; m < ARRAY_LEN(masks); m++) {
			struct err err = { 0 };
			struct gguf *g = NULL;

			head.data[at] ^= masks[m];
			save_bytes(&one, head.data, head.len, 4096);
			if (gguf_open(one.path, &g, &err)) {
				refused++;
				assert_int_not_equal(err.text[0], 0);
			} else {
				gguf_destroy(g);
			}
			assert_true(one.fd < 16);
			build_fini(&one);
			head.data[at] ^= masks[m];
		}
	}
	assert_true(refused > head.len);
	free(head.data);
	build_fini(&b);
}

/* A claim in a file of a terabyte (a hole) reserves nothing: the peak of memory stays. */
static void test_claims_reserve_nothing(void **state)
{
	struct gguf_build b = { 0 };
	struct rusage before, after;
	struct err err = { 0 };
	struct bytes head = { 0 };
	struct gguf *g;

	put(&head, "GGUF", 4);
	put_u32(&head, 3);
	put_u64(&head, 1ull << 34);
	put_u64(&head, 1ull << 34);
	save_bytes(&b, head.data, head.len, 1ull << 40);
	getrusage(RUSAGE_SELF, &before);
	assert_int_equal(gguf_open(b.path, &g, &err), -EINVAL);
	getrusage(RUSAGE_SELF, &after);
	assert_non_null(strstr(err.text, "a key is empty"));
	assert_true(after.ru_maxrss - before.ru_maxrss < 8 << 10);
	free(head.data);
	build_fini(&b);
}

static void test_long_paths(void **state)
{
	struct err err = { 0 };
	struct gguf *g;
	char path[3000];

	memset(path, 'd', sizeof(path));
	for (unsigned i = 0; i < sizeof(path); i += 100)
		path[i] = '/';
	strcpy(path + sizeof(path) - 12, "model.gguf");
	assert_true(gguf_open(path, &g, &err) < 0);
	assert_non_null(strstr(err.text, "model.gguf: cannot be opened"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixture),
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_vocabulary),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_unused_values),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_cut_everywhere),
		cmocka_unit_test(test_spoilt_everywhere),
		cmocka_unit_test(test_claims_reserve_nothing),
		cmocka_unit_test(test_long_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
