/* SPDX-License-Identifier: MIT */
/* Description: the metrics' text: every series once, in base units, unknown ones left out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/histogram.h"
#include "metrics/metrics.h"

static char *text;

/* What @print writes about @arg, in text until the next call. */
static void catch (void (*print)(FILE *out, const void *arg), const void *arg)
{
	size_t len;
	FILE *out;

	free(text);
	text = NULL;
	out = open_memstream(&text, &len);
	assert_non_null(out);
	print(out, arg);
	assert_int_equal(fclose(out), 0);
}

static unsigned count(const char *needle)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, needle)); at += strlen(needle))
		n++;
	return n;
}

static void assert_has(const char *line)
{
	if (count(line) != 1)
		fail_msg("%u times, not once: %s\nin\n%s", count(line), line, text);
}

/* Samples of a histogram have names of their own. */
static const char *const parts[] = { "_bucket", "_sum", "_count" };

static void cut_end(char *name, const char *end)
{
	size_t n = strlen(name), len = strlen(end);

	if (n > len && !strcmp(name + n - len, end))
		name[n - len] = '\0';
}

/* Each sample stands below the head of its own family, and no family comes twice. */
static void check_form(void)
{
	char copy[65536], family[128] = "", *save;

	assert_true(strlen(text) < sizeof(copy));
	strcpy(copy, text);
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char name[128], head[160];

		if (sscanf(line, "# HELP %127s", name) == 1) {
			strcpy(family, name);
			snprintf(head, sizeof(head), "# TYPE %s ", name);
			assert_has(head);
			assert_true(strncmp(name, "sluice_", 7) == 0);
		} else if (*line != '#') {
			assert_int_equal(sscanf(line, "%127[a-z_]", name), 1);
			for (unsigned i = 0; i < 3 && strcmp(name, family); i++)
				cut_end(name, parts[i]);
			assert_string_equal(name, family);
			assert_true(strpbrk(line, "{ ") != NULL);
		}
	}
}

static void print_daemon(FILE *out, const void *arg)
{
	metrics_print_daemon(out, arg);
}

static void daemon_series(void **state)
{
	struct sluice_status_info s = { .state = SLUICE_STATE_READY,
					.filling = 1,
					.tokens_generated = 9007199254740991ull,
					.stall_ns = 1500000000,
					.waiting = 3,
					.version = "1.2\"\\\n",
					.cpu = "avx2",
					.policy = "lfu",
					.n_nodes = 2,
					.nodes = { { .node = 4, .arena_bytes = 77 },
						   { .node = -1, .arena_bytes = 78 } } };

	catch (print_daemon, &s);
	check_form();
	assert_has("\nsluice_up 1\n");
	assert_has("\nsluice_tokens_generated_total 9007199254740991\n");
	assert_has("# TYPE sluice_tokens_generated_total counter\n");
	assert_has("\nsluice_stall_seconds_total 1.5\n");
	assert_has("\nsluice_filling 1\n");
	assert_has("# TYPE sluice_filling gauge\n");
	assert_has("\nsluice_requests_waiting 3\n"); /* a field of 32 bits, beside others */
	assert_has("\nsluice_requests_active 0\n");
	assert_has("sluice_build_info{version=\"1.2\\\"\\\\\\n\",cpu=\"avx2\",io=\"\",arena=\"\","
		   "policy=\"lfu\"} 1\n");
	assert_has("\nsluice_arena_bytes{node=\"4\"} 77\n");
	assert_int_equal(count("sluice_arena_bytes{"), 1);
	s.state = SLUICE_STATE_STARTING;
	s.n_nodes = 0;
	catch (print_daemon, &s);
	check_form();
	assert_has("\nsluice_up 0\n");
	assert_int_equal(count("sluice_arena_bytes"), 0);
}

static void histograms(void **state)
{
	struct histogram h = { 0 };
	struct histogram_values v;
	struct sluice_status_info s = { .state = SLUICE_STATE_READY, .ended = { 5, 0, 2, 1 } };

	histogram_observe(&h, 0);
	histogram_observe(&h, 1000000); /* a bound is part of what it bounds */
	histogram_observe(&h, 1000001);
	histogram_observe(&h, 400000000000);
	histogram_read(&h, &v);
	memcpy(s.latency[SLUICE_LATENCY_FIRST].counts, v.counts, sizeof(v.counts));
	s.latency[SLUICE_LATENCY_FIRST].sum_ns = v.sum_ns;
	catch (print_daemon, &s);
	check_form();
	assert_has("# TYPE sluice_first_token_seconds histogram\n");
	assert_has("\nsluice_first_token_seconds_bucket{le=\"0.001\"} 2\n");
	assert_has("\nsluice_first_token_seconds_bucket{le=\"0.002\"} 3\n");
	assert_has("\nsluice_first_token_seconds_bucket{le=\"300\"} 3\n");
	assert_has("\nsluice_first_token_seconds_bucket{le=\"+Inf\"} 4\n");
	assert_has("\nsluice_first_token_seconds_sum 400.002000001\n");
	assert_has("\nsluice_first_token_seconds_count 4\n");
	assert_has("\nsluice_queue_seconds_count 0\n");
	assert_has("\nsluice_requests_total{reason=\"cancelled\"} 2\n");
}

static void print_up(FILE *out, const void *arg)
{
	metrics_print_up(out, *(const bool *)arg);
}

static void no_daemon(void **state)
{
	const bool up = false;

	catch (print_up, &up);
	check_form();
	assert_has("\nsluice_up 0\n");
}

static struct limits limits;

static void print_machine(FILE *out, const void *arg)
{
	metrics_print_machine(out, arg, &limits);
}

static void machine_series(void **state)
{
	static struct telemetry_snapshot t;

	memset(&t, 0xff, sizeof(t)); /* nothing is known */
	for (int g = 0; g < TELEMETRY_GROUP_NR; g++)
		t.groups[g].source = TELEMETRY_NONE;
	t.n_nodes = t.n_pci = t.n_disks = t.n_gpus = 0;
	memset(&limits, 0xff, sizeof(limits));
	catch (print_machine, &t);
	check_form();
	assert_int_equal(count("sluice_telemetry_source{"), TELEMETRY_GROUP_NR);
	assert_int_equal(count("# TYPE "), 1);
	limits.machine_bytes = 25276502016;
	t.n_nodes = 2;
	t.nodes[0].id = 0;
	t.nodes[1].id = 7;
	t.nodes[1].total_bytes = 12345;
	t.n_gpus = 1;
	strcpy(t.gpus[0].bdf, "0000:01:00.0");
	t.gpus[0].power_mw = 123456;
	catch (print_machine, &t);
	check_form();
	assert_has("\nsluice_machine_memory_bytes 25276502016\n");
	assert_int_equal(count("sluice_room_bytes"), 0);
	assert_has("\nsluice_node_memory_bytes{node=\"7\"} 12345\n");
	assert_int_equal(count("sluice_node_memory_bytes{"), 1); /* of node 0 it is not known */
	assert_has("\nsluice_gpu_power_watts{device=\"0000:01:00.0\"} 123.456\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(daemon_series),
		cmocka_unit_test(histograms),
		cmocka_unit_test(no_daemon),
		cmocka_unit_test(machine_series),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	free(text);
	return rc;
}
