/* SPDX-License-Identifier: MIT */
/*
 * Description: NVML through a fake library: values land in their units, what a GPU does not support
 * stays unknown, no library and a broken one are no fault, and a lost GPU is not asked again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "telemetry/nvml.h"

static struct telemetry_sample sample;
static int *result, *init_result, *shutdowns;

/* fake_nvml.so lies beside this program. */
static int find_fake(void **state)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	void *library;

	(void)state;
	assert_true(n > 0);
	path[n] = '\0';
	strcpy(strrchr(path, '/'), "/fake_nvml.so");
	setenv("SLUICE_NVML", path, 1);
	library = dlopen(path, RTLD_NOW);
	assert_non_null(library);
	result = dlsym(library, "fake_nvml_result");
	init_result = dlsym(library, "fake_nvml_init_result");
	shutdowns = dlsym(library, "fake_nvml_shutdowns");
	return result && init_result && shutdowns ? 0 : -1;
}

static void test_values(void **state)
{
	const struct telemetry_gpu *g = sample.state.gpus;
	struct telemetry_config config = { 0 };
	void *nvml = NULL;

	(void)state;
	assert_int_equal(telemetry_nvml_ops.open(&config, &nvml, NULL), 0);
	telemetry_sample_init(&sample);
	assert_int_equal(telemetry_nvml_ops.sample(nvml, 1234, &sample), 0);
	assert_int_equal(sample.state.n_gpus, 2);
	assert_string_equal(g[0].name, "Fake GPU 0");
	assert_string_equal(g[0].bdf, "0000:81:00.0");
	assert_int_equal(g[0].memory_total_bytes, 24ull << 30);
	assert_int_equal(g[0].memory_free_bytes, 20ull << 30);
	assert_int_equal(g[0].link_gen, 1);
	assert_int_equal(g[0].max_link_gen, 4);
	assert_int_equal(g[0].link_width, 16);
	assert_int_equal(g[0].rx_bytes_per_s, 2000 * 1024);
	assert_int_equal(g[0].tx_bytes_per_s, 1000 * 1024);
	assert_int_equal(g[0].sm_clock_mhz, 1500);
	assert_int_equal(g[0].max_memory_clock_mhz, 10500);
	assert_int_equal(g[0].temperature_c, 70);
	assert_int_equal(g[0].power_mw, 350000);
	assert_int_equal(g[0].busy_percent, 77);
	assert_int_equal(g[0].throttled, TELEMETRY_YES);
	assert_string_equal(g[0].throttle_text, "power limit, too hot (hardware)");
	assert_int_equal(g[0].origin.source, TELEMETRY_NVML);
	assert_int_equal(g[0].origin.updated_ns, 1234);
	assert_string_equal(g[1].name, "Fake GPU 2");
	assert_string_equal(g[1].bdf, "");
	assert_int_equal(g[1].memory_total_bytes, 24ull << 30);
	assert_int_equal(g[1].sm_clock_mhz, TELEMETRY_UNKNOWN);
	assert_int_equal(g[1].throttled, TELEMETRY_MAYBE);
	telemetry_nvml_ops.close(nvml);
}

static void test_lost(void **state)
{
	struct telemetry_config config = { 0 };
	int before = *shutdowns;
	void *nvml = NULL;

	(void)state;
	assert_int_equal(telemetry_nvml_ops.open(&config, &nvml, NULL), 0);
	*result = 15; /* fallen off the bus */
	telemetry_sample_init(&sample);
	telemetry_nvml_ops.sample(nvml, 1, &sample);
	assert_int_equal(sample.state.gpus[0].power_mw, TELEMETRY_UNKNOWN);
	*result = 0;
	telemetry_sample_init(&sample);
	assert_int_equal(telemetry_nvml_ops.sample(nvml, 2, &sample), -ENODEV);
	assert_int_equal(sample.state.n_gpus, 0);
	telemetry_nvml_ops.close(nvml);
	assert_int_equal(*shutdowns, before + 1);
}

static void test_absent_and_broken(void **state)
{
	struct telemetry_config config = { 0 };
	char *good = strdup(getenv("SLUICE_NVML"));
	struct err err = { { 0 } };
	void *nvml = NULL;

	(void)state;
	*init_result = 9;
	assert_int_equal(telemetry_nvml_ops.open(&config, &nvml, &err), -ENODEV);
	assert_non_null(strstr(err.text, "does not start (error 9)"));
	*init_result = 0;
	setenv("SLUICE_NVML", "/nonexistent/libnvidia-ml.so.1", 1);
	assert_int_equal(telemetry_nvml_ops.open(&config, &nvml, &err), -ENOENT);
	setenv("SLUICE_NVML", "libc.so.6", 1); /* a library, but another one */
	assert_int_equal(telemetry_nvml_ops.open(&config, &nvml, &err), -ENODEV);
	assert_null(nvml);
	telemetry_nvml_ops.close(NULL);
	setenv("SLUICE_NVML", good, 1);
	free(good);
}

/* Behind the built-in sources, as the daemon has it. */
static void test_as_a_source(void **state)
{
	struct telemetry_config config = { 0 };
	struct telemetry_snapshot *s = malloc(sizeof(*s));
	struct telemetry *t;

	(void)state;
	assert_non_null(s);
	assert_int_equal(telemetry_create(&config, &t, NULL), 0);
	assert_int_equal(telemetry_read(t, s), 0);
	assert_int_equal(s->n_gpus, 2);
	assert_int_equal(s->groups[TELEMETRY_GROUP_GPU].source, TELEMETRY_NVML);
	telemetry_destroy(t);
	free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_absent_and_broken),
		cmocka_unit_test(test_as_a_source),
	};

	return cmocka_run_group_tests(tests, find_fake, NULL);
}
