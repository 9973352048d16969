/* SPDX-License-Identifier: MIT */
/*
 * Description: sessions without any wire: asks in, events out, in turn, bounded; then a second
 * transport of a few lines, to show that a connection needs nothing of the native protocol.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fake_rooms.c" /* takes the place of the rooms that would be linked */

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/log.h"
#include "grammar/stop.h"
#include "serve/conn.h"
#include "serve/forms.h"
#include "serve/private.h"
#include "serve/session.h"

static struct engine *engine;
static struct serve *serve;

/* A serve without listening socket: only what sessions and connections need. */
static int start(void **state)
{
	log_init((enum log_level)0);
	engine_create(NULL, NULL, NULL, &engine, NULL);
	serve = calloc(1, sizeof(*serve));
	serve->config = (struct serve_config){ .model_path = "/models/echo.gguf",
					       .model = &fake_model,
					       .tokenizer = &fake_tokenizer,
					       .engine = engine,
					       .stall_ms = 50,
					       .hello_ms = 50,
					       .logits_pending = SERVE_LOGITS_PENDING };
	serve->listen_fd = serve->signal_fd = serve->reserve_fd = -1;
	serve->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	serve->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	serve->text_room = 128;
	serve->text = malloc(serve->text_room);
	return engine_start(engine, NULL);
}

static int stop(void **state)
{
	bool clean = !serve->conns;

	engine_destroy(engine);
	session_reap_orphans(serve);
	clean &= !serve->orphans && !atomic_load(&serve->logits_pending);
	serve_destroy(serve);
	atomic_store(&fake.hold, false);
	atomic_store(&fake.token_us, 0);
	atomic_store(&fake.chunk, 0);
	atomic_store(&fake.fail_after, 0);
	return clean ? 0 : -1;
}

static struct ask generate(uint64_t id, const char *text, uint32_t max_tokens)
{
	return (struct ask){ .kind = ASK_GENERATE,
			     .id = id,
			     .data = (const uint8_t *)text,
			     .bytes = strlen(text),
			     .max_tokens = max_tokens };
}

/* The next event, waited for. */
static struct event wait_event(struct session *s)
{
	struct event e;

	for (int i = 0; i < 20000; i++) {
		if (session_next(s, &e))
			return e;
		nap(500);
	}
	fail_msg("no event came");
	return e;
}

static void expect_refused(struct session *s, const struct ask *ask, int code, const char *why)
{
	struct event e;

	assert_true(session_ask(s, ask, &e));
	assert_int_equal(e.kind, EVENT_REFUSED);
	assert_int_equal(e.id, ask->id);
	assert_int_equal(e.u.refused.code, code);
	assert_non_null(strstr(e.u.refused.why.text, why));
	event_fini(&e);
}

static void a_request(void **state)
{
	struct ask ask = generate(7, "Hello", 7);
	struct session s;
	struct event e;
	char text[16] = "";

	session_init(&s, serve);
	assert_true(session_ask(&s, &ask, &e));
	assert_int_equal(e.kind, EVENT_ACCEPTED);
	assert_int_equal(e.u.accepted.n_prompt, 5);
	assert_int_equal(e.u.accepted.max_tokens, 7);
	assert_int_equal(e.u.accepted.n_ctx, FAKE_CTX);
	for (e = wait_event(&s); e.kind == EVENT_TOKEN; e = wait_event(&s)) {
		assert_int_equal(e.id, 7);
		assert_int_equal(e.u.token.index, strlen(text));
		strncat(text, e.u.token.text, e.u.token.bytes);
	}
	assert_string_equal(text, "HelloHe");
	assert_int_equal(e.kind, EVENT_DONE);
	assert_int_equal(e.u.done.stop, STOP_LENGTH);
	assert_int_equal(e.u.done.n_sent, 7);
	assert_string_equal(e.u.done.why, "");
	assert_int_equal(e.u.done.figures->n_prompt, 5);
	assert_int_equal(s.n_jobs, 1);
	session_reap(&s);
	assert_int_equal(s.n_jobs, 0);
	assert_false(session_next(&s, &e));
	session_end(&s);
}

static void scores(void **state)
{
	struct ask ask = generate(1, "abc", 0);
	struct session s;
	struct event e;
	float row[FAKE_VOCAB];

	ask.kind = ASK_SCORE;
	ask.want_logits = ask.want_logprobs = true;
	session_init(&s, serve);
	assert_true(session_ask(&s, &ask, &e));
	assert_int_equal(e.kind, EVENT_ACCEPTED);
	e = wait_event(&s);
	assert_int_equal(e.kind, EVENT_LOGITS);
	assert_int_equal(e.u.logits.n_rows, 3);
	assert_int_equal(pread(e.u.logits.fd, row, sizeof(row), sizeof(row)), sizeof(row));
	assert_true(row[5] == 'b' * 1000 + 5);
	event_fini(&e);
	assert_int_equal(e.u.logits.fd, -1);
	e = wait_event(&s);
	assert_int_equal(e.kind, EVENT_LOGPROBS);
	assert_int_equal(e.u.logprobs.n, 2);
	assert_true(e.u.logprobs.values[1] == -2);
	e = wait_event(&s);
	assert_int_equal(e.kind, EVENT_DONE);
	session_reap(&s);
	/* logits that nobody takes go with the session */
	assert_true(session_ask(&s, &ask, &e));
	while (atomic_load(&engine->touched))
		nap(500);
	session_end(&s);
}

static void refusals(void **state)
{
	struct ask ask = generate(1, "Hello", 2);
	uint32_t bad[] = { 'a', FAKE_VOCAB };
	struct session s;
	struct event e;

	session_init(&s, serve);
	atomic_store(&fake.hold, true);
	assert_true(session_ask(&s, &ask, &e));
	expect_refused(&s, &ask, SLUICE_E_DUPLICATE_ID, "request 1 is still open");
	for (ask.id = 2; ask.id <= SERVE_MAX_REQUESTS; ask.id++) {
		assert_true(session_ask(&s, &ask, &e));
		assert_int_equal(e.kind, EVENT_ACCEPTED);
	}
	expect_refused(&s, &ask, SLUICE_E_BUSY, "open requests");
	session_end(&s); /* cancels: the engine lets go of what it holds back */
	atomic_store(&fake.hold, false);
	session_init(&s, serve);
	ask = (struct ask){ .kind = ASK_GENERATE,
			    .id = 1,
			    .data = (const uint8_t *)bad,
			    .bytes = sizeof(bad),
			    .is_ids = true };
	expect_refused(&s, &ask, SLUICE_E_INVALID, "token 300 at position 1");
	ask = generate(1, "Hello", 2);
	ask.n_untimed = 6;
	expect_refused(&s, &ask, SLUICE_E_INVALID, "n_untimed");
	atomic_store(&fake.refuse, -ESHUTDOWN);
	ask.n_untimed = 0;
	expect_refused(&s, &ask, SLUICE_E_SHUTDOWN, "refused by the test");
	atomic_store(&fake.refuse, 0);
	assert_int_equal(s.n_jobs, 0);
	session_end(&s);
}

/* Two answers that are both there come one event each, not one after the other. */
static void in_turn(void **state)
{
	struct ask ask = generate(1, "ab", 20);
	struct session s;
	struct event e;
	uint64_t last = 0;

	session_init(&s, serve);
	for (ask.id = 1; ask.id <= 2; ask.id++)
		assert_true(session_ask(&s, &ask, &e));
	while (atomic_load(&engine->touched))
		nap(500);
	for (int i = 0; i < 40; i++) {
		assert_true(session_next(&s, &e));
		assert_int_equal(e.kind, EVENT_TOKEN);
		assert_int_not_equal(e.id, last);
		last = e.id;
	}
	for (int i = 0; i < 2; i++) {
		assert_true(session_next(&s, &e));
		assert_int_equal(e.kind, EVENT_DONE);
		session_reap(&s); /* also while the other's turn is next */
	}
	assert_false(session_next(&s, &e));
	session_end(&s);
}

static void cancels(void **state)
{
	struct ask ask = generate(5, "Hello", 60000), stop_it = { .kind = ASK_CANCEL, .id = 5 };
	struct session s, other;
	struct event e;

	session_init(&s, serve);
	session_init(&other, serve);
	atomic_store(&fake.token_us, 200);
	assert_true(session_ask(&s, &ask, &e));
	e = wait_event(&s);
	assert_int_equal(e.kind, EVENT_TOKEN);
	assert_false(session_ask(&other, &stop_it, &e)); /* not its request: nothing happens */
	e = wait_event(&s);
	assert_int_equal(e.kind, EVENT_TOKEN);
	assert_false(session_ask(&s, &stop_it, &e));
	for (e = wait_event(&s); e.kind == EVENT_TOKEN;)
		e = wait_event(&s);
	assert_int_equal(e.kind, EVENT_DONE);
	assert_int_equal(e.u.done.stop, STOP_CANCELLED);
	session_reap(&s);
	session_end(&s);
	session_end(&other);
}

static void questions(void **state)
{
	struct ask ask = { .kind = ASK_MODEL, .id = 3 };
	struct session s;
	struct event e;
	uint32_t ids[] = { 'o', 'k' };

	session_init(&s, serve);
	assert_true(session_ask(&s, &ask, &e));
	assert_int_equal(e.kind, EVENT_MODEL);
	assert_string_equal(e.u.model.info->arch, "fakemoe");
	assert_string_equal(e.u.model.path, "/models/echo.gguf");
	ask.kind = ASK_STATUS;
	assert_true(session_ask(&s, &ask, &e));
	assert_int_equal(e.kind, EVENT_STATUS);
	assert_int_equal(e.u.status.info->experts_resident, 32);
	assert_string_equal(e.u.status.notes, "no hugepages\nno io_uring");
	ask = generate(3, "xy", 0);
	ask.kind = ASK_TOKENIZE;
	assert_true(session_ask(&s, &ask, &e));
	assert_int_equal(e.kind, EVENT_IDS);
	assert_int_equal(e.u.ids.n, 2);
	assert_int_equal(e.u.ids.values[1], 'y');
	event_fini(&e);
	ask = (struct ask){ .kind = ASK_DETOKENIZE,
			    .data = (const uint8_t *)ids,
			    .bytes = sizeof(ids),
			    .is_ids = true };
	assert_true(session_ask(&s, &ask, &e));
	assert_int_equal(e.kind, EVENT_TEXT);
	assert_int_equal(e.u.text.bytes, 2);
	assert_memory_equal(e.u.text.text, "ok", 2);
	event_fini(&e);
	session_end(&s);
}

/* ---- a second transport: a line is a prompt, the answer's text comes back, then a newline ---- */

static bool line_receive(struct conn *c)
{
	char line[64];
	ssize_t n = recv(c->fd, line, sizeof(line), MSG_DONTWAIT);
	struct event e;
	struct ask ask;

	if (n < 0)
		return false;
	if (!n) {
		conn_drop(c);
		return false;
	}
	ask = generate(1, "", 8);
	ask.data = (const uint8_t *)line;
	ask.bytes = (uint64_t)n - 1;
	if (session_ask(&c->session, &ask, &e)) {
		c->transport->render(c, &e);
		event_fini(&e);
	}
	return true;
}

static void line_render(struct conn *c, struct event *e)
{
	if (e->kind == EVENT_TOKEN)
		conn_write(c, e->u.token.text, e->u.token.bytes, -1);
	else if (e->kind == EVENT_DONE)
		conn_write(c, "\n", 1, -1);
	else if (e->kind == EVENT_REFUSED)
		conn_write(c, e->u.refused.why.text, strlen(e->u.refused.why.text), -1);
}

static uint32_t line_patience; /* 0: for ever */

static uint32_t line_patience_ms(const struct conn *c)
{
	return line_patience;
}

static void line_expire(struct conn *c)
{
	conn_write(c, "late", 4, -1);
	conn_drop(c);
}

static unsigned n_unsent;

static void line_unsent(struct conn *c, const void *data, size_t len)
{
	n_unsent++;
}

static const struct transport line_transport = { .conn_bytes = sizeof(struct conn),
						 .receive = line_receive,
						 .render = line_render,
						 .patience_ms = line_patience_ms,
						 .expire = line_expire,
						 .unsent = line_unsent };

/* Turns the loop until the peer has read @want, or the test fails. */
static void turn_until(int peer, const char *want)
{
	char got[64] = "";
	size_t n = 0;

	for (int i = 0; i < 4000 && n < strlen(want); i++) {
		struct epoll_event events[4];
		int n_events = epoll_wait(serve->epoll_fd, events, 4, 1);
		ssize_t more;

		for (int k = 0; k < n_events; k++)
			conn_event(events[k].data.ptr, events[k].events);
		for (struct conn *c = serve->conns; c; c = c->next) {
			conn_pump(c);
			session_reap(&c->session);
		}
		conn_sweep(serve, true);
		more = recv(peer, got + n, sizeof(got) - 1 - n, MSG_DONTWAIT);
		n += more > 0 ? (size_t)more : 0;
	}
	assert_string_equal(got, want);
}

static void another_transport(void **state)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	assert_int_equal(conn_create(serve, &line_transport, pair[0], 0), 0);
	assert_int_equal(send(pair[1], "abc\n", 4, 0), 4);
	turn_until(pair[1], "abcabcab\n");
	assert_int_equal(send(pair[1], "xy\n", 3, 0), 3);
	turn_until(pair[1], "xyxyxyxy\n");
	line_patience = 1;
	turn_until(pair[1], "late");
	line_patience = 0;
	conn_sweep(serve, false);
	assert_null(serve->conns);
	close(pair[1]);
	/* a client that goes takes its request along */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
			 0);
	assert_int_equal(conn_create(serve, &line_transport, pair[0], 0), 0);
	atomic_store(&fake.hold, true);
	assert_int_equal(send(pair[1], "abc\n", 4, 0), 4);
	turn_until(pair[1], "");
	conn_event(serve->conns, EPOLLIN);
	assert_int_equal(atomic_load(&engine->open), 1);
	close(pair[1]);
	conn_event(serve->conns, EPOLLHUP);
	conn_sweep(serve, false);
	for (int i = 0; i < 4000 && atomic_load(&engine->touched); i++)
		nap(500);
	assert_int_equal(atomic_load(&engine->touched), 0);
	assert_non_null(serve->orphans);
	session_reap_orphans(serve);
	assert_null(serve->orphans);
}

static struct conn *connected(int pair[2])
{
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(conn_create(serve, &line_transport, pair[0], 0), 0);
	return serve->conns;
}

/* One client's descriptors that are on their way refuse other clients' packets, and end none of them. */
static void descriptors_on_their_way(void **state)
{
	const struct rlimit few = { 64, 64 };
	uid_t uid = geteuid();
	struct rlimit was;
	int a[2], b[2];
	struct conn *one = connected(a), *other = connected(b);
	unsigned n = 0;
	char got[8];

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ few.rlim_cur, was.rlim_max }),
			 0);
	if (!uid) /* root has no such bound */
		assert_int_equal(seteuid(65534), 0);
	for (n_unsent = 0; n < 200 && !n_unsent; n++)
		conn_write(one, "x", 1, dup(b[1]));
	assert_int_equal(n_unsent, 1);
	conn_write(other, "y", 1, dup(b[1]));
	assert_int_equal(n_unsent, 2);
	assert_int_equal(seteuid(uid), 0);
	setrlimit(RLIMIT_NOFILE, &was);
	assert_false(one->dead || other->dead || one->out || other->out);
	conn_write(other, "z", 1, -1);
	assert_int_equal(recv(b[1], got, sizeof(got), 0), 1);
	assert_int_equal(got[0], 'z');
	conn_drop(one);
	conn_drop(other);
	conn_sweep(serve, false);
	close(a[1]);
	close(b[1]);
}

static void abandoned(void **state)
{
	struct ask ask = generate(7, "Hello", 7);
	struct session s;
	struct event e;

	session_init(&s, serve);
	atomic_store(&fake.hold, true);
	for (ask.id = 7; ask.id < 10; ask.id++) {
		assert_true(session_ask(&s, &ask, &e));
		assert_int_equal(e.kind, EVENT_ACCEPTED);
	}
	session_abandon(&s, 8);
	session_abandon(&s, 99);
	assert_int_equal(s.n_jobs, 2);
	assert_non_null(serve->orphans);
	session_end(&s);
	assert_int_equal(s.n_jobs, 0);
}

/* ---- forms ---- */

/* A grammar that takes its time, of @n bytes. */
static char *slow_grammar(size_t n)
{
	static const char head[] = "root ::= \"x\"", more[] = " | [^a-f]{3,7} \"abc\"";
	char *text = malloc(n + 1);
	size_t at = sizeof(head) - 1;

	memcpy(text, head, at);
	for (; at + sizeof(more) <= n; at += sizeof(more) - 1)
		memcpy(text + at, more, sizeof(more) - 1);
	memset(text + at, ' ', n - at);
	text[n] = '\0';
	return text;
}

static void wait_done(const struct form_task *t)
{
	for (int i = 0; i < 20000 && !forms_is_done(t); i++)
		nap(500);
	assert_true(forms_is_done(t));
}

/* What waits is bounded, and who takes it back takes it out. */
static void forms_that_wait(void **state)
{
	char *text = slow_grammar(4 << 20);
	const struct form_text what = { .form = FORM_GBNF, .text = text, .n = 4 << 20 },
			       small = { .form = FORM_REGEX, .text = "a|b", .n = 3 };
	struct form_task *all[16], *t;
	struct constraint *c;
	struct err err = { 0 };
	int rc;

	assert_int_equal(forms_create(serve, 1 << 20, &serve->forms), 0);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 16; i++) {
			/* what was dropped while it was compiled keeps the last place until it has ended */
			while ((rc = forms_begin(serve->forms, &what, &all[i], &err)) == -EBUSY &&
			       round && i == 15)
				nap(500);
			assert_int_equal(rc, 0);
		}
		assert_int_equal(forms_begin(serve->forms, &small, &t, &err), -EBUSY);
		assert_non_null(strstr(err.text, "wait to be compiled"));
		err_clear(&err);
		for (unsigned i = 0; i < 16; i++)
			forms_drop(all[(i + 5) % 16]);
		while (forms_begin(serve->forms, &what, &t,
				   &err)) /* the one that was running ends */
			nap(500);
		forms_drop(t);
	}
	assert_int_equal(forms_begin(serve->forms, &small, &t, &err), 0);
	wait_done(t);
	assert_int_equal(forms_take(t, &c, &err), 0);
	constraint_put(c);
	free(text);
}

static void schemas_as_text(void **state)
{
	static const struct {
		const char *text, *why;
	} all[] = {
		{ "{\"type\": \"null\"} \n", NULL },
		{ "{\"type\": \"null\"} {}", "no JSON" },
		{ "{\"type\": \"null\"}\0x", "goes on behind" },
		{ "{'type': 'null'}", "no JSON" },
	};

	assert_int_equal(forms_create(serve, 1 << 20, &serve->forms), 0);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		const struct form_text what = { .form = FORM_SCHEMA,
						.text = all[i].text,
						.n = strlen(all[i].text) + (i == 2 ? 2 : 0) };
		struct constraint *c = NULL;
		struct err err = { 0 };
		struct form_task *t;

		assert_int_equal(forms_begin(serve->forms, &what, &t, &err), 0);
		wait_done(t);
		assert_int_equal(forms_take(t, &c, &err), all[i].why ? -EINVAL : 0);
		if (all[i].why && !strstr(err.text, all[i].why))
			fail_msg("%s", err.text);
		constraint_put(c);
	}
}

/* A form that is ready when the engine has gone begins nothing. */
static int stop_with_a_form(void **state)
{
	struct ask ask = generate(7, "Hello", 7);
	struct event e;
	int pair[2];
	struct conn *c = connected(pair);

	ask.form = FORM_REGEX;
	ask.form_text = (const uint8_t *)"a|b";
	ask.form_bytes = 3;
	if (forms_create(serve, 1 << 20, &serve->forms) || session_ask(&c->session, &ask, &e))
		return -1;
	for (int i = 0; i < 20000 && !atomic_load(&serve->wake_pending); i++)
		nap(500);
	engine_destroy(engine);
	serve_destroy(serve);
	close(pair[1]);
	return 0;
}

static void nothing(void **state)
{
}

#define WITH_SERVE(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_SERVE(a_request),
		WITH_SERVE(scores),
		WITH_SERVE(refusals),
		WITH_SERVE(in_turn),
		WITH_SERVE(cancels),
		WITH_SERVE(questions),
		WITH_SERVE(another_transport),
		WITH_SERVE(descriptors_on_their_way),
		WITH_SERVE(abandoned),
		WITH_SERVE(forms_that_wait),
		WITH_SERVE(schemas_as_text),
		cmocka_unit_test_setup_teardown(nothing, start, stop_with_a_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
