/* SPDX-License-Identifier: MIT */
/* Description: sluice chat: what a terminal is given, streams however they are cut, commands, saved files. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tools/chat.h"
#include "tools/shown.h"

static char path[64];

/* @text in pieces of @cut bytes, as a terminal gets it. */
static const char *shown(const char *text, size_t n, size_t cut, bool raw)
{
	static char all[512];
	struct shown s = { .raw = raw };
	FILE *out = fmemopen(all, sizeof(all), "w");

	memset(all, 0, sizeof(all));
	for (size_t at = 0; at < n; at += cut)
		shown_put(&s, out, text + at, at + cut < n ? cut : n - at);
	shown_end(&s, out);
	fclose(out);
	return all;
}

static void what_a_terminal_is_given(void **state)
{
	static const struct {
		const char *text, *want;
	} all[] = {
		{ "plain\ttext\nand gr\xc3\xbc\xc3\x9f\x65 \xe2\x82\xac \xf0\x9f\x98\x80", NULL },
		{ "\x1b[31mred\x1b[0m\a\b\x7f", "^[[31mred^[[0m^G^H^?" },
		{ "\x1b]0;title\x07\x1b]52;c;aGk=\x1b\\", "^[]0;title^G^[]52;c;aGk=^[\\" },
		{ "\xc2\x9b"
		  "2J",
		  "<U+009B>2J" },
		{ "a\xe2\x80\xae"
		  "b\xe2\x81\xa6",
		  "a<U+202E>b<U+2066>" },
		{ "one\r\ntwo\rthree\r", "one\ntwo^Mthree^M" },
		{ "\xff\x80"
		  "a\xc3",
		  "\xef\xbf\xbd\xef\xbf\xbd"
		  "a\xef\xbf\xbd" },
		{ "\xe2\x82"
		  "a",
		  "\xef\xbf\xbd"
		  "a" },
		{ "\xe0\x80\x9b", "\xef\xbf\xbd" },	/* too long a form of a control character */
		{ "\xed\xa0\x80", "\xef\xbf\xbd" },	/* a surrogate */
		{ "\xf4\x90\x80\x80", "\xef\xbf\xbd" }, /* beyond Unicode */
		{ "\xc0\x9b", "\xef\xbf\xbd\xef\xbf\xbd" },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		for (size_t cut = 1; cut <= strlen(all[i].text); cut++) {
			const char *want = all[i].want ? all[i].want : all[i].text;

			assert_string_equal(shown(all[i].text, strlen(all[i].text), cut, false),
					    want);
			assert_string_equal(shown(all[i].text, strlen(all[i].text), cut, true),
					    all[i].text);
		}
	/* every byte alone: nothing that steers gets through */
	for (int byte = 0; byte < 256; byte++) {
		char one = (char)byte;
		const char *text = shown(&one, 1, 1, false);

		for (; *text; text++)
			assert_true((uint8_t)*text >= ' ' || *text == '\n' || *text == '\t');
	}
}

/* The same of a sentence that is whole, in place. */
static void what_failed_is_shown(void **state)
{
	char text[] = "gr\xc3\xbc\xc3\x9f\x65\tno\n\x1b]0;x\x07\x7f\xc2\x9b"
		      "2J\xe2\x80\xae\xed\xa0\x80\xc0\x9b\xff\xf0\x9f\x98\x80\xe2\x82";

	shown_clean(text);
	assert_string_equal(text, "gr\xc3\xbc\xc3\x9f\x65\tno\n?]0;x????"
				  "2J?????????\xf0\x9f\x98\x80??");
	for (int byte = 1; byte < 256; byte++) {
		char one[] = { (char)byte, '\0' };

		shown_clean(one);
		assert_true(one[0] == '\n' || one[0] == '\t' || (one[0] >= ' ' && one[0] < 0x7f));
	}
}

static char got[2048];

static void on_event(void *arg, const struct stream_event *e)
{
	static const char names[] = "RCFPE.";
	size_t n = strlen(got);

	if (e->kind == STREAM_PROGRESS)
		snprintf(got + n, sizeof(got) - n, "P%u/%u;", e->n_read, e->n_prompt);
	else
		snprintf(got + n, sizeof(got) - n, "%c%s;", names[e->kind], e->text);
}

#define DELTA(text) "data: {\"choices\":[{\"delta\":" text ",\"finish_reason\":null}]}\n\n"

static const char answer[] = DELTA(
	"{\"role\":\"assistant\",\"content\":\"\"}") ": ping\n\n"
						     "data: {\"choices\":[],\"prompt_progress\":{\"processed\":3,\"total\":9}}\n\n" DELTA(
							     "{\"reasoning_content\":\"hm\"}")
							     DELTA("{\"content\":\"a\\nb\"}") "data: not JSON\n\nevent: x\n\ndata: []\n\n"
											      "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
											      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,"
											      "\"prompt_tokens_details\":{\"cached_tokens\":6}},\"timings\":{\"predicted_per_second\":12.5}}\n\n"
											      "data: [DONE]\n\n";

static void streams(void **state)
{
	size_t len = sizeof(answer) - 1;

	for (size_t cut = 1; cut <= len; cut += cut < 40 ? 1 : 37) {
		struct stream_figures f = { 0 };
		struct bytes body = { 0 };
		bool ended = false;

		got[0] = '\0';
		for (size_t at = 0; at < len; at += cut) {
			assert_false(ended);
			assert_int_equal(
				bytes_put(&body, answer + at, at + cut < len ? cut : len - at), 0);
			ended = stream_take(&body, &f, on_event, NULL);
		}
		assert_true(ended && !body.n);
		assert_string_equal(got, "P3/9;Rhm;Ca\nb;.end;");
		assert_int_equal(f.n_prompt, 9);
		assert_int_equal(f.n_cached, 6);
		assert_int_equal(f.n_answer, 4);
		assert_string_equal(f.finish, "length");
		assert_float_equal(f.rate, 12.5, 0);
		bytes_done(&body);
	}
}

static void a_stream_that_breaks_off(void **state)
{
	static const char text[] =
		"data: {\"error\":{\"message\":\"no memory\"}}\n\ndata: {\"error\":7}\n\n"
		"data: {\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":1e300},"
		"\"choices\":{}}\n\ndata: [DONE]\n\ndata: more\n\n";
	struct stream_figures f = { 0 };
	struct bytes body = { 0 };

	got[0] = '\0';
	assert_int_equal(bytes_put(&body, text, sizeof(text) - 1), 0);
	assert_true(stream_take(&body, &f, on_event, NULL));
	assert_string_equal(got, "Eno memory;Ethe daemon failed;.end;");
	assert_int_equal(f.n_prompt, 0);
	bytes_done(&body);
}

/* Runs a command; what it said. */
static const char *said(struct talk *t, const char *line, enum command_result want)
{
	static char text[4096];
	FILE *out = fmemopen(text, sizeof(text), "w");
	const char *message;

	memset(text, 0, sizeof(text));
	assert_int_equal(command_run(t, line, out, &message), want);
	fclose(out);
	return text;
}

static void assert_request(struct talk *t, const char *want)
{
	char *text = talk_request(t);

	if (!strstr(text, want))
		print_error("%s\n", text);
	assert_non_null(strstr(text, want));
	free(text);
}

static void commands(void **state)
{
	struct talk t;
	const char *message;

	assert_int_equal(talk_init(&t), 0);
	assert_int_equal(command_run(&t, "hello /quit", stderr, &message), COMMAND_NONE);
	assert_string_equal(message, "hello /quit");
	assert_int_equal(command_run(&t, "//etc is a directory", stderr, &message), COMMAND_NONE);
	assert_string_equal(message, "/etc is a directory");
	said(&t, "/quit", COMMAND_QUIT);
	said(&t, "/system  You are terse. ", COMMAND_DONE);
	said(&t, "/params temperature=0.50 seed=7", COMMAND_DONE);
	said(&t, "/think off", COMMAND_DONE);
	talk_add(&t, "user", "Hi", NULL);
	talk_add(&t, "assistant", "Yes?", "thought");
	assert_request(
		&t,
		"\"messages\":[{\"role\":\"system\",\"content\":\"You are terse.\"},{\"role\":\"user\","
		"\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":\"Yes?\","
		"\"reasoning_content\":\"thought\"}]");
	assert_request(&t, "\"temperature\":0.50,\"seed\":7");
	assert_request(&t, "\"enable_thinking\":false");
	assert_non_null(strstr(said(&t, "/params", COMMAND_DONE), "seed=7\n"));
	said(&t, "/params temperature=.5 top_p=+1 top_n_sigma=-.25 typical_p=1.e-1", COMMAND_DONE);
	assert_request(&t, "\"temperature\":0.5,\"seed\":7,\"top_p\":1.0,\"top_n_sigma\":-0.25,"
			   "\"typical_p\":0.1");
	said(&t, "/params top_p= top_n_sigma= typical_p=", COMMAND_DONE);
	said(&t, "/params temperature=0.50 seed=+7 xtc_threshold=1e-1", COMMAND_DONE);
	assert_request(&t, "\"temperature\":0.50,\"seed\":7,\"xtc_threshold\":1e-1");
	assert_non_null(strstr(said(&t, "/params heat=1", COMMAND_DONE),
			       "no such parameter; there are temperature"));
	assert_non_null(strstr(said(&t, "/params seed=x", COMMAND_DONE), "no number"));
	assert_non_null(strstr(said(&t, "/params seed=1.5", COMMAND_DONE), "no whole number"));
	assert_non_null(strstr(said(&t, "/params top_p=nan", COMMAND_DONE), "no number"));
	/* what the daemon would refuse is not taken: the value before stays */
	assert_non_null(strstr(said(&t, "/params temperature=9999", COMMAND_DONE),
			       "temperature=9999: it must lie between 0 and 100"));
	assert_non_null(strstr(said(&t, "/params temperature=-0.1", COMMAND_DONE), "between"));
	assert_non_null(
		strstr(said(&t, "/params top_k=-2", COMMAND_DONE), "between -1 and 2147483647"));
	said(&t, "/params top_k=2147483647 temperature=100 temperature=0.50", COMMAND_DONE);
	assert_non_null(strstr(said(&t, "/params top_k=", COMMAND_DONE), "temperature=0.50\n"));
	said(&t, "/params seed=-9223372036854775808", COMMAND_DONE);
	assert_non_null(strstr(said(&t, "/params seed=", COMMAND_DONE), "temperature=0.50\n"));
	assert_non_null(strstr(said(&t, "/nothing", COMMAND_DONE), "there is no /nothing"));
	assert_non_null(strstr(said(&t, "/", COMMAND_DONE), "there is no /"));
	assert_non_null(strstr(said(&t, "/help", COMMAND_DONE), "/think on|off|auto"));
	said(&t, "/clear", COMMAND_DONE);
	assert_int_equal(talk_turns(&t), 0);
	assert_request(&t, "You are terse.");
	said(&t, "/system", COMMAND_DONE);
	said(&t, "/think auto", COMMAND_DONE);
	assert_null(t.system);
	talk_done(&t);
}

static void saved_and_loaded(void **state)
{
	struct err err = { 0 };
	struct talk t, u;
	struct stat st;
	char *before, *after;

	assert_int_equal(talk_init(&t), 0);
	assert_int_equal(talk_init(&u), 0);
	talk_set_system(&t, "gr\xc3\xbc\xc3\x9f\x65 \"\x01");
	assert_int_equal(talk_set_param(&t, "temperature=0.25", &err), 0);
	talk_add(&t, "user", "a\nb", NULL);
	talk_add(&t, "assistant", "", "only a thought");
	t.thinking = TALK_THINK;
	assert_int_equal(talk_save(&t, path, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(talk_load(&u, path, &err), 0);
	before = talk_request(&t);
	after = talk_request(&u);
	assert_string_equal(before, after);
	free(before);
	free(after);
	assert_int_equal(talk_save(&t, "/dev/null", &err), -EINVAL);
	err_clear(&err);
	assert_true(talk_save(&t, "/nowhere/x", &err) < 0);
	err_clear(&err);
	assert_int_equal(talk_load(&u, "/nowhere/x", &err), -ENOENT);
	talk_done(&t);
	talk_done(&u);
}

static void files_of_others(void **state)
{
	static const char *const all[] = {
		"",
		"[]",
		"{}",
		"{\"messages\":7}",
		"{\"messages\":[7]}",
		"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}",
		"{\"messages\":[{\"role\":\"user\",\"content\":[]}]}",
		"{\"messages\":[],\"params\":{\"heat\":1}}",
		"{\"messages\":[],\"params\":{\"seed\":\"x\"}}",
		"{\"messages\":[],\"params\":{\"temperature\":101}}",
	};
	struct talk t;

	assert_int_equal(talk_init(&t), 0);
	talk_add(&t, "user", "kept", NULL);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct err err = { 0 };
		FILE *f = fopen(path, "w");

		fputs(all[i], f);
		fclose(f);
		assert_int_equal(talk_load(&t, path, &err), -EINVAL);
		assert_non_null(strstr(err.text, path));
		assert_int_equal(talk_turns(&t), 1);
	}
	talk_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_terminal_is_given),
		cmocka_unit_test(what_failed_is_shown),
		cmocka_unit_test(streams),
		cmocka_unit_test(a_stream_that_breaks_off),
		cmocka_unit_test(commands),
		cmocka_unit_test(saved_and_loaded),
		cmocka_unit_test(files_of_others),
	};
	int rc;

	snprintf(path, sizeof(path), "/tmp/test_chat.%d", (int)getpid());
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return rc;
}
