/* SPDX-License-Identifier: MIT */
/*
 * Description: structs between programs and a libsluice of another age: layouts that must not move,
 * an older caller, a newer one, and sizes that nobody set.
 */
#include "serve_rig.h"

#include "uapi/libsluice_structs.h"

/* ---- layouts of the first release: a failure here breaks programs that are compiled already ---- */

#define AT(type, field, at) _Static_assert(offsetof(struct type, field) == (at), #type "." #field)

AT(sluice_settings, struct_size, 0);
AT(sluice_settings, flags, 4);
AT(sluice_settings, max_tokens, 8);
AT(sluice_settings, n_untimed, 12);
AT(sluice_settings, temperature, 16);
AT(sluice_settings, top_k, 20);
AT(sluice_settings, top_p, 24);
AT(sluice_settings, min_p, 28);
AT(sluice_settings, seed, 32);
AT(sluice_prompt, struct_size, 0);
AT(sluice_prompt, flags, 4);
AT(sluice_prompt, tokens, 8);
AT(sluice_prompt, n_tokens, 8 + sizeof(void *));
AT(sluice_prompt, text, 8 + 2 * sizeof(void *));
AT(sluice_prompt, text_bytes, 8 + 3 * sizeof(void *));
AT(sluice_prompt, system, 8 + 4 * sizeof(void *));
AT(sluice_settings, n_draft, 48 + sizeof(void *));
AT(sluice_settings, repeat_penalty, 48 + 2 * sizeof(void *));
AT(sluice_piece, token, 4);
AT(sluice_piece, index, 8);
AT(sluice_piece, text, 16);
AT(sluice_piece, bytes, 16 + sizeof(void *));
AT(sluice_piece, likeliest, 16 + 2 * sizeof(void *));
AT(sluice_piece, n_likeliest, 16 + 3 * sizeof(void *));
AT(sluice_settings, n_logprobs, 100 + 2 * sizeof(void *));
AT(sluice_settings, bias, 104 + 2 * sizeof(void *));
AT(sluice_settings, dry_breakers, 104 + 4 * sizeof(void *));
AT(sluice_settings, form_text, 104 + 6 * sizeof(void *));
AT(sluice_settings, form, 104 + 8 * sizeof(void *));
AT(sluice_fault, error, 0);
AT(sluice_fault, code, 4);
AT(sluice_fault, reserved, 8);
AT(sluice_fault, text, 64);
_Static_assert(sizeof(struct sluice_fault) == 576, "has no size of its own: never changes");
AT(sluice_done, stop, 4);
AT(sluice_done, prompt_ns, 24);
AT(sluice_done, payload_bytes, 88);
AT(sluice_model_info, n_layers, 8);
AT(sluice_model_info, payload_bytes, 96);
AT(sluice_model_info, name, 136);
AT(sluice_status_info, load_bytes, 40);
AT(sluice_status_info, payload_bytes, 168);
AT(sluice_status_info, read_busy_ns, 752);
AT(sluice_status_info, nodes, 784);
AT(sluice_status_info, telemetry, 976);
AT(sluice_status_info, memory_limit_bytes, 1232);
AT(sluice_status_info, memory_from, 1256);
AT(sluice_status_info, dense_memory_bytes, 1768);
AT(sluice_status_info, slots, 1816);
AT(sluice_status_info, reasons, 2584);

/* ---- callers of other ages: a kind of which this library knows 24 bytes, the first had 16 ---- */

static const struct sluice__kind kind = { "struct sluice_sample", 16, 24 };

struct older {
	uint32_t struct_size, a;
	uint64_t b;
};

struct current {
	uint32_t struct_size, a;
	uint64_t b, c;
};

struct newer {
	uint32_t struct_size, a;
	uint64_t b, c, d;
};

static void an_older_caller(void **state)
{
	struct {
		struct older o;
		uint64_t beyond;
	} caller = { { sizeof(struct older), 7, 8 }, 0x5555 };
	struct current known = { .c = 99 };

	assert_int_equal(sluice__take(&kind, &known, &caller.o, NULL), 0);
	assert_int_equal(known.a, 7);
	assert_int_equal(known.b, 8);
	assert_int_equal(known.c, 0); /* not what happens to lie behind the caller's struct */
	known = (struct current){ 24, 1, 2, 3 };
	assert_int_equal(sluice__check_room(&kind, &caller.o, NULL), 0);
	sluice__give(&kind, &caller.o, &known);
	assert_int_equal(caller.o.struct_size, sizeof(struct older));
	assert_int_equal(caller.o.a, 1);
	assert_int_equal(caller.o.b, 2);
	assert_int_equal(caller.beyond, 0x5555);
}

static void a_newer_caller(void **state)
{
	struct newer caller = { sizeof(caller), 7, 8, 9, 0 };
	struct current known;
	struct sluice_fault fault;

	assert_int_equal(sluice__take(&kind, &known, &caller, &fault), 0);
	assert_int_equal(known.c, 9);
	caller.d = 1;
	assert_int_equal(sluice__take(&kind, &known, &caller, &fault), -E2BIG);
	assert_int_equal(fault.error, -E2BIG);
	assert_non_null(strstr(fault.text, "struct sluice_sample"));
	known = (struct current){ 24, 1, 2, 3 };
	assert_int_equal(sluice__check_room(&kind, &caller, &fault), 0);
	sluice__give(&kind, &caller, &known);
	assert_int_equal(caller.struct_size, sizeof(caller));
	assert_int_equal(caller.c, 3);
	assert_int_equal(caller.d, 0); /* nobody knows: never the caller's own value */
}

static void sizes_that_nobody_set(void **state)
{
	static const uint32_t sizes[] = { 4, 15, 17, 65540, 0x7ffe1234, UINT32_MAX };
	struct newer unset = { 0, 7, 8, 9, 10 };
	struct current known;
	struct sluice_fault fault;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct newer caller = { .struct_size = sizes[i] };

		assert_int_equal(sluice__take(&kind, &known, &caller, &fault), -EINVAL);
		assert_int_equal(sluice__check_room(&kind, &caller, &fault), -EINVAL);
		assert_non_null(strstr(fault.text, "set it to sizeof(struct sluice_sample)"));
	}
	assert_int_equal(sluice__take(&kind, &known, NULL, &fault), -EINVAL);
	/* 0 is the first version where it is read; nothing is written to what nobody measured */
	assert_int_equal(sluice__take(&kind, &known, &unset, &fault), 0);
	assert_int_equal(known.a, 7);
	assert_int_equal(known.c, 0);
	assert_int_equal(sluice__check_room(&kind, &unset, &fault), -EINVAL);
}

/* ---- the public functions: each refuses by itself, says why, and the connection lives on ---- */

/* Programs compiled with a header that has one field more than this one. */
struct newer_settings {
	struct sluice_settings now;
	uint64_t later;
};

struct newer_prompt {
	struct sluice_prompt now;
	uint64_t later;
};

struct newer_status {
	struct sluice_status_info now;
	uint64_t later;
};

struct newer_done {
	struct sluice_done now;
	uint64_t later;
};

static void newer_programs(void **state)
{
	struct newer_settings how = { .now = { .struct_size = sizeof(how), .max_tokens = 2 } };
	struct newer_prompt p = {
		.now = { .struct_size = sizeof(p), .text = "ab", .text_bytes = 2 }
	};
	struct newer_status status = { .now = { .struct_size = sizeof(status) }, .later = 5 };
	struct newer_done done = { .now = { .struct_size = sizeof(done) }, .later = 5 };
	struct sluice *s = client();
	struct sluice_fault fault;
	uint32_t *ids;
	size_t n;

	assert_int_equal(sluice_generate(s, &p.now, &how.now, NULL, NULL, &done.now, &fault), 0);
	assert_int_equal(done.now.n_generated, 2);
	assert_int_equal(done.now.struct_size, sizeof(done));
	assert_int_equal(done.later, 0);
	how.later = 1;
	assert_int_equal(sluice_generate(s, &p.now, &how.now, NULL, NULL, NULL, &fault), -E2BIG);
	assert_int_equal(fault.code, 0); /* the library said it, not the daemon */
	p.later = 1;
	assert_int_equal(sluice_score(s, &p.now, NULL, NULL, NULL, NULL, &fault), -E2BIG);
	assert_int_equal(sluice_tokenize(s, &p.now, &ids, &n, &fault), -E2BIG);
	assert_int_equal(sluice_get_status(s, &status.now, NULL, 0, &fault), 0);
	assert_int_equal(status.later, 0);
	assert_string_equal(status.now.io, "uring");
	sluice_close(s);
}

static void unset_sizes(void **state)
{
	struct sluice_settings how = { .max_tokens = 2 };
	struct sluice_prompt p = { .text = "ab", .text_bytes = 2 };
	struct sluice_model_info model = { 0 };
	struct sluice_status_info status = { 0 };
	struct sluice_done done = { 0 };
	struct sluice *s = client();
	struct sluice_fault fault;
	uint32_t *ids;
	size_t n;

	assert_int_equal(sluice_get_model(s, &model, NULL, 0, &fault), -EINVAL);
	assert_int_equal(sluice_get_status(s, &status, NULL, 0, &fault), -EINVAL);
	/* what is only read is then the first version */
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), 0);
	free(ids);
	assert_int_equal(sluice_score(s, &p, NULL, NULL, NULL, NULL, &fault), 0);
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, &done, &fault), -EINVAL);
	assert_non_null(strstr(fault.text, "struct sluice_done"));
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, NULL, &fault), 0);
	sluice_close(s);
}

static void unknown_flags(void **state)
{
	struct sluice_settings how = { .struct_size = sizeof(how), .max_tokens = 2 };
	struct sluice_prompt p = { .struct_size = sizeof(p), .text = "ab", .text_bytes = 2 };
	struct sluice *s = client();
	struct sluice_fault fault;
	uint32_t id = 'a', *ids;
	char *text;
	size_t n;

	how.flags = 1u << 31;
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, NULL, &fault), -EOPNOTSUPP);
	assert_non_null(strstr(fault.text, "0x80000000"));
	how.flags = 0;
	p.flags = SLUICE_RAW; /* one that exists, but not there */
	assert_int_equal(sluice_generate(s, &p, &how, NULL, NULL, NULL, &fault), -EOPNOTSUPP);
	assert_int_equal(sluice_score(s, &p, NULL, NULL, NULL, NULL, &fault), -EOPNOTSUPP);
	assert_int_equal(sluice_tokenize(s, &p, &ids, &n, &fault), -EOPNOTSUPP);
	assert_int_equal(sluice_detokenize(s, &id, 1, SLUICE_CHAT, &text, &n, &fault), -EOPNOTSUPP);
	sluice_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_older_caller),
		cmocka_unit_test(a_newer_caller),
		cmocka_unit_test(sizes_that_nobody_set),
		WITH_DAEMON(newer_programs),
		WITH_DAEMON(unset_sizes),
		WITH_DAEMON(unknown_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
