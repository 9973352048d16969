/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/nvml.c: see nvml.h.
 *
 * Names, numbers and struct layouts are those of NVIDIA's NVML reference (version 12): versioned
 * entry points are asked for by their versioned name.
 */
#include "telemetry/nvml.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* nvmlReturn_t */
#define NVML_SUCCESS	       0
#define NVML_UNINITIALIZED     1
#define NVML_DRIVER_NOT_LOADED 9
#define NVML_GPU_IS_LOST       15

#define NVML_CLOCK_SM	  1
#define NVML_CLOCK_MEM	  2
#define NVML_TEMPERATURE  0 /* the GPU's core */
#define NVML_PCIE_TX	  0 /* out of the GPU */
#define NVML_PCIE_RX	  1
#define NVML_REASON_IDLE  0x1ull
#define NVML_REASON_SWCAP 0x4ull

typedef struct nvml_device *device_t;

struct nvml_memory {
	unsigned long long total, free, used;
};

struct nvml_pci {
	char bus_id_legacy[16];
	unsigned domain, bus, device, device_id, subsystem_id;
	char bus_id[32];
};

struct nvml_utilization {
	unsigned gpu, memory;
};

/* Functions that take a device and give one number, and where it goes. */
#define NVML_NUMBERS(X)                                       \
	X("nvmlDeviceGetCurrPcieLinkGeneration", link_gen)    \
	X("nvmlDeviceGetCurrPcieLinkWidth", link_width)       \
	X("nvmlDeviceGetMaxPcieLinkGeneration", max_link_gen) \
	X("nvmlDeviceGetMaxPcieLinkWidth", max_link_width)    \
	X("nvmlDeviceGetPowerUsage", power_mw)                \
	X("nvmlDeviceGetEnforcedPowerLimit", power_limit_mw)

/* The same with a kind in between. */
#define NVML_KINDS(X)                                                        \
	X("nvmlDeviceGetClockInfo", NVML_CLOCK_SM, sm_clock_mhz)             \
	X("nvmlDeviceGetClockInfo", NVML_CLOCK_MEM, memory_clock_mhz)        \
	X("nvmlDeviceGetMaxClockInfo", NVML_CLOCK_SM, max_sm_clock_mhz)      \
	X("nvmlDeviceGetMaxClockInfo", NVML_CLOCK_MEM, max_memory_clock_mhz) \
	X("nvmlDeviceGetTemperature", NVML_TEMPERATURE, temperature_c)

static const struct {
	uint64_t bit;
	const char *text;
} reasons[] = {
	{ NVML_REASON_IDLE, "idle" },
	{ 0x2, "clocks set by an application" },
	{ NVML_REASON_SWCAP, "power limit" },
	{ 0x8, "hardware slowdown" },
	{ 0x10, "sync boost" },
	{ 0x20, "too hot (software)" },
	{ 0x40, "too hot (hardware)" },
	{ 0x80, "power brake" },
	{ 0x100, "display clocks" },
};

/* What slows a GPU down against the owner's will. */
#define REASONS_THROTTLED (NVML_REASON_SWCAP | 0x8 | 0x20 | 0x40 | 0x80)

struct nvml {
	void *library;
	int (*shutdown)(void);
	int (*memory)(device_t d, struct nvml_memory *ret);
	int (*utilization)(device_t d, struct nvml_utilization *ret);
	int (*reasons)(device_t d, unsigned long long *ret);
	int (*throughput)(device_t d, int counter, unsigned *ret_kb_per_s);
	int (*number[16])(device_t d, unsigned *ret);
	int (*kind[16])(device_t d, int kind, unsigned *ret);
	unsigned n;
	struct {
		device_t device;
		char name[64], uuid[64], bdf[16];
	} gpu[TELEMETRY_MAX_GPUS];
	bool lost;
};

/* dlsym gives an object pointer; POSIX says it may be used as a function's. */
static void find(const struct nvml *n, const char *name, void *ret_function)
{
	void *symbol = dlsym(n->library, name);

	memcpy(ret_function, &symbol, sizeof(symbol));
}

static void find_queries(struct nvml *n)
{
	unsigned i = 0, k = 0;

	find(n, "nvmlShutdown", &n->shutdown);
	find(n, "nvmlDeviceGetMemoryInfo", &n->memory);
	find(n, "nvmlDeviceGetUtilizationRates", &n->utilization);
	find(n, "nvmlDeviceGetCurrentClocksThrottleReasons", &n->reasons);
	find(n, "nvmlDeviceGetPcieThroughput", &n->throughput);
#define X(name, field) find(n, name, &n->number[i++]);
	NVML_NUMBERS(X)
#undef X
#define X(name, number, field) find(n, name, &n->kind[k++]);
	NVML_KINDS(X)
#undef X
}

/* "00000000:81:00.0" -> "0000:81:00.0", as sysfs writes it */
static void normal_bdf(char ret[16], const char *text)
{
	unsigned domain, bus, device, function;

	ret[0] = '\0';
	if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &device, &function) == 4)
		snprintf(ret, 16, "%04x:%02x:%02x.%x", domain & 0xffff, bus & 0xff, device & 0x1f,
			 function & 7);
}

static int find_devices(struct nvml *n)
{
	int (*count)(unsigned *ret), (*handle)(unsigned index, device_t *ret);
	int (*name)(device_t d, char *ret, unsigned len),
		(*uuid)(device_t d, char *ret, unsigned len);
	int (*pci)(device_t d, struct nvml_pci * ret);
	unsigned found = 0;

	find(n, "nvmlDeviceGetCount_v2", &count);
	find(n, "nvmlDeviceGetHandleByIndex_v2", &handle);
	find(n, "nvmlDeviceGetName", &name);
	find(n, "nvmlDeviceGetUUID", &uuid);
	find(n, "nvmlDeviceGetPciInfo_v3", &pci);
	if (!count || !handle || count(&found))
		return -ENOTSUP;
	for (unsigned i = 0; i < found && n->n < TELEMETRY_MAX_GPUS; i++) {
		struct nvml_pci p;
		unsigned k = n->n;

		if (handle(i, &n->gpu[k].device))
			continue; /* one that we may not open, or that is lost */
		if (!name || name(n->gpu[k].device, n->gpu[k].name, sizeof(n->gpu[k].name)))
			n->gpu[k].name[0] = '\0';
		if (!uuid || uuid(n->gpu[k].device, n->gpu[k].uuid, sizeof(n->gpu[k].uuid)))
			n->gpu[k].uuid[0] = '\0';
		n->gpu[k].name[sizeof(n->gpu[k].name) - 1] = '\0';
		n->gpu[k].uuid[sizeof(n->gpu[k].uuid) - 1] = '\0';
		memset(&p, 0, sizeof(p));
		if (pci && !pci(n->gpu[k].device, &p)) {
			p.bus_id[sizeof(p.bus_id) - 1] = '\0';
			normal_bdf(n->gpu[k].bdf, p.bus_id);
		}
		n->n++;
	}
	return 0;
}

static void nvml_close(void *state)
{
	struct nvml *n = state;

	if (!n)
		return;
	if (n->shutdown)
		n->shutdown();
	if (n->library)
		dlclose(n->library);
	free(n);
}

static int nvml_open(const struct telemetry_config *config, void **ret_state, struct err *err)
{
	const char *name = getenv("SLUICE_NVML");
	struct nvml *n = calloc(1, sizeof(*n));
	int (*init)(void), rc;

	(void)config;
	if (!n)
		return err_set(err, -ENOMEM, "no memory for NVML");
	n->library = dlopen(name ? name : "libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!n->library) {
		free(n);
		return -ENOENT; /* no NVIDIA driver here */
	}
	find(n, "nvmlInit_v2", &init);
	rc = init ? init() : -1;
	if (rc) {
		dlclose(n->library);
		free(n);
		return err_set(err, -ENODEV, "NVML is there and does not start (error %d): GPU %s",
			       rc, "values are unknown");
	}
	find_queries(n);
	rc = find_devices(n);
	if (rc) {
		nvml_close(n);
		return err_set(err, rc, "NVML does not list its devices: GPU values are unknown");
	}
	*ret_state = n;
	return 0;
}

/* Books a query's result: true when its value may be used. */
static bool good(struct nvml *n, int rc)
{
	if (rc == NVML_GPU_IS_LOST || rc == NVML_UNINITIALIZED || rc == NVML_DRIVER_NOT_LOADED)
		n->lost = true;
	return rc == NVML_SUCCESS;
}

static void put_reasons(struct telemetry_gpu *g, uint64_t bits)
{
	size_t used = 0;

	g->throttle_bits = bits;
	g->throttled = bits & REASONS_THROTTLED ? TELEMETRY_YES : TELEMETRY_NO;
	g->throttle_text[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(reasons) && used < sizeof(g->throttle_text); i++)
		if (bits & reasons[i].bit)
			used += (size_t)snprintf(g->throttle_text + used,
						 sizeof(g->throttle_text) - used, "%s%s",
						 used ? ", " : "", reasons[i].text);
}

static void sample_gpu(struct nvml *n, unsigned index, struct telemetry_gpu *g)
{
	device_t d = n->gpu[index].device;
	struct nvml_utilization use;
	struct nvml_memory memory;
	unsigned long long bits;
	unsigned value, i = 0, k = 0;

	snprintf(g->name, sizeof(g->name), "%s", n->gpu[index].name);
	snprintf(g->uuid, sizeof(g->uuid), "%s", n->gpu[index].uuid);
	snprintf(g->bdf, sizeof(g->bdf), "%s", n->gpu[index].bdf);
	if (n->memory && good(n, n->memory(d, &memory))) {
		g->memory_total_bytes = memory.total;
		g->memory_free_bytes = memory.free;
	}
	if (n->utilization && good(n, n->utilization(d, &use)))
		g->busy_percent = use.gpu;
	if (n->reasons && good(n, n->reasons(d, &bits)))
		put_reasons(g, bits);
	if (n->throughput && good(n, n->throughput(d, NVML_PCIE_RX, &value)))
		g->rx_bytes_per_s = (uint64_t)value * 1024;
	if (n->throughput && good(n, n->throughput(d, NVML_PCIE_TX, &value)))
		g->tx_bytes_per_s = (uint64_t)value * 1024;
#define X(symbol, field)                                      \
	if (n->number[i] && good(n, n->number[i](d, &value))) \
		g->field = value;                             \
	i++;
	NVML_NUMBERS(X)
#undef X
#define X(symbol, which, field)                                  \
	if (n->kind[k] && good(n, n->kind[k](d, which, &value))) \
		g->field = value;                                \
	k++;
	NVML_KINDS(X)
#undef X
}

static int nvml_sample(void *state, uint64_t now, struct telemetry_sample *sample)
{
	struct nvml *n = state;

	if (n->lost)
		return -ENODEV;
	for (unsigned i = 0; i < n->n; i++) {
		struct telemetry_gpu *g = telemetry_gpu_add(&sample->state);

		if (!g)
			break;
		sample_gpu(n, i, g);
		telemetry_mark(&sample->state, TELEMETRY_GROUP_GPU, &g->origin, TELEMETRY_NVML,
			       now);
	}
	return 0;
}

const struct telemetry_ops telemetry_nvml_ops = {
	.source = TELEMETRY_NVML,
	.open = nvml_open,
	.sample = nvml_sample,
	.close = nvml_close,
};
