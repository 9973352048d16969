/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/telemetry/fake_nvml.c: a libnvidia-ml with two GPUs that the test can break: the second
 * supports little, and fake_nvml_result makes every query fail.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int fake_nvml_result, fake_nvml_init_result, fake_nvml_shutdowns;

struct nvml_device {
	int number;
};

static struct nvml_device devices[3] = { { 0 }, { 1 }, { 2 } };

#define API __attribute__((visibility("default")))
#define ONLY_FIRST                                    \
	do {                                          \
		if (fake_nvml_result)                 \
			return fake_nvml_result;      \
		if (d->number)                        \
			return 3; /* not supported */ \
	} while (0)

API int nvmlInit_v2(void);
API int nvmlInit_v2(void)
{
	return fake_nvml_init_result;
}

API int nvmlShutdown(void);
API int nvmlShutdown(void)
{
	fake_nvml_shutdowns++;
	return 0;
}

API int nvmlDeviceGetCount_v2(unsigned *ret);
API int nvmlDeviceGetCount_v2(unsigned *ret)
{
	*ret = 3;
	return 0;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned i, struct nvml_device **ret);
API int nvmlDeviceGetHandleByIndex_v2(unsigned i, struct nvml_device **ret)
{
	*ret = &devices[i];
	return i == 1 ? 4 : 0; /* no permission for the one in the middle */
}

API int nvmlDeviceGetName(struct nvml_device *d, char *ret, unsigned len);
API int nvmlDeviceGetName(struct nvml_device *d, char *ret, unsigned len)
{
	snprintf(ret, len, "Fake GPU %d", d->number);
	return 0;
}

API int nvmlDeviceGetUUID(struct nvml_device *d, char *ret, unsigned len);
API int nvmlDeviceGetUUID(struct nvml_device *d, char *ret, unsigned len)
{
	snprintf(ret, len, "GPU-%d", d->number);
	return 0;
}

struct nvml_pci {
	char legacy[16];
	unsigned domain, bus, device, device_id, subsystem_id;
	char bus_id[32];
};

API int nvmlDeviceGetPciInfo_v3(struct nvml_device *d, struct nvml_pci *ret);
API int nvmlDeviceGetPciInfo_v3(struct nvml_device *d, struct nvml_pci *ret)
{
	snprintf(ret->bus_id, sizeof(ret->bus_id), d->number ? "garbage" : "00000000:81:00.0");
	return 0;
}

struct nvml_memory {
	unsigned long long total, free, used;
};

API int nvmlDeviceGetMemoryInfo(struct nvml_device *d, struct nvml_memory *ret);
API int nvmlDeviceGetMemoryInfo(struct nvml_device *d, struct nvml_memory *ret)
{
	if (fake_nvml_result)
		return fake_nvml_result;
	*ret = (struct nvml_memory){ .total = 24ull << 30, .free = 20ull << 30 };
	return 0;
}

struct nvml_utilization {
	unsigned gpu, memory;
};

API int nvmlDeviceGetUtilizationRates(struct nvml_device *d, struct nvml_utilization *ret);
API int nvmlDeviceGetUtilizationRates(struct nvml_device *d, struct nvml_utilization *ret)
{
	ONLY_FIRST;
	*ret = (struct nvml_utilization){ .gpu = 77, .memory = 12 };
	return 0;
}

API int nvmlDeviceGetCurrentClocksThrottleReasons(struct nvml_device *d, unsigned long long *ret);
API int nvmlDeviceGetCurrentClocksThrottleReasons(struct nvml_device *d, unsigned long long *ret)
{
	ONLY_FIRST;
	*ret = 0x4 | 0x40;
	return 0;
}

API int nvmlDeviceGetPcieThroughput(struct nvml_device *d, int counter, unsigned *ret);
API int nvmlDeviceGetPcieThroughput(struct nvml_device *d, int counter, unsigned *ret)
{
	const char *path = getenv("FAKE_NVML_RX"); /* a file with KiB a second towards the GPU */
	FILE *f;

	ONLY_FIRST;
	*ret = counter ? 2000 : 1000;
	f = path && counter ? fopen(path, "re") : NULL;
	if (f && fscanf(f, "%u", ret) != 1)
		*ret = 0;
	if (f)
		fclose(f);
	return 0;
}

#define NUMBER(name, value)                                 \
	API int name(struct nvml_device *d, unsigned *ret); \
	API int name(struct nvml_device *d, unsigned *ret)  \
	{                                                   \
		ONLY_FIRST;                                 \
		*ret = value;                               \
		return 0;                                   \
	}

NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, 1)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, 16)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, 4)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, 16)
NUMBER(nvmlDeviceGetPowerUsage, 350000)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, 450000)

#define KIND(name, value)                                             \
	API int name(struct nvml_device *d, int kind, unsigned *ret); \
	API int name(struct nvml_device *d, int kind, unsigned *ret)  \
	{                                                             \
		ONLY_FIRST;                                           \
		*ret = (unsigned)(value);                             \
		return 0;                                             \
	}

KIND(nvmlDeviceGetClockInfo, kind == 1 ? 1500 : kind == 2 ? 10000 : 0)
KIND(nvmlDeviceGetMaxClockInfo, kind == 1 ? 2500 : kind == 2 ? 10500 : 0)
KIND(nvmlDeviceGetTemperature, 70 + kind)
