/* SPDX-License-Identifier: MIT */
/*
 * See guest.h. Owns the numbers of the TAP points; refuses nothing: a program that cannot go on
 * ends here with a line that says why.
 */
#include "guest.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int points, failures, skips;

static void say(const char *start, const char *format, va_list args)
{
	fputs(start, stdout);
	vprintf(format, args);
	putchar('\n');
	fflush(stdout);
}

bool tap_ok(bool good, const char *format, ...)
{
	char start[32];
	va_list args;

	points++;
	failures += !good;
	snprintf(start, sizeof(start), "%sok %d - ", good ? "" : "not ", points);
	va_start(args, format);
	say(start, format, args);
	va_end(args);
	return good;
}

bool tap_is(long long got, long long want, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (got == want)
		return tap_ok(true, "%s", text);
	return tap_ok(false, "%s: got %lld, not %lld", text, got, want);
}

void tap_note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("# ", format, args);
	va_end(args);
}

void tap_skip(const char *format, ...)
{
	char start[32];
	va_list args;

	points++;
	skips++;
	snprintf(start, sizeof(start), "ok %d # SKIP ", points);
	va_start(args, format);
	say(start, format, args);
	va_end(args);
}

int tap_done(void)
{
	if (points && skips == points) {
		printf("1..0 # SKIP every point\n");
		return 77;
	}
	printf("1..%d\n", points);
	fflush(stdout);
	return failures || !points;
}

void tap_bail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("not ok 0 - cannot go on: ", format, args);
	va_end(args);
	exit(1);
}

int guest_load(const char *parameters)
{
	int fd = open("/sluice.ko", O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = (int)syscall(SYS_finit_module, fd, parameters, 0) ? -errno : 0;
	close(fd);
	return rc;
}

int guest_unload(void)
{
	if (!syscall(SYS_delete_module, "sluice", O_NONBLOCK))
		return 0;
	/* what the kernel says of a module in use; EBUSY only of one that is being loaded */
	return errno == EAGAIN ? -EBUSY : -errno;
}

void guest_need(const char *parameters)
{
	int rc = 0, tries = 100;

	/* a program before this one left it: its files may still be closing */
	while (file_number(-1, GUEST_MODULE_DIR "/refcnt") >= 0 && tries-- &&
	       (rc = guest_unload()) == -EBUSY)
		usleep(10000);
	if (rc && rc != -ENOENT)
		tap_bail("rmmod of an earlier sluice: %s", strerror(-rc));
	rc = guest_load(parameters);
	if (rc)
		tap_bail("insmod sluice.ko %s: %s", parameters, strerror(-rc));
}

void guest_drop(void)
{
	int rc = guest_unload();

	if (rc)
		tap_bail("rmmod sluice: %s", strerror(-rc));
}

int guest_open(void)
{
	int fd = open(SLUICE_DEVICE_PATH, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		tap_bail("open %s: %s", SLUICE_DEVICE_PATH, strerror(errno));
	return fd;
}

void guest_info(int fd, struct sluice_get_info *ret_info)
{
	memset(ret_info, 0, sizeof(*ret_info));
	ret_info->size = sizeof(*ret_info);
	ret_info->caller_abi = SLUICE_ABI_VERSION;
	if (ioctl(fd, SLUICE_GET_INFO, ret_info))
		tap_bail("GET_INFO: %s", strerror(errno));
}

const void *guest_map(int fd, const struct sluice_get_info *info)
{
	void *page = mmap(NULL, info->page_bytes, PROT_READ, MAP_SHARED, fd, 0);

	if (page == MAP_FAILED)
		tap_bail("mmap of %u bytes: %s", info->page_bytes, strerror(errno));
	return page;
}

void guest_copy(const void *page, void *copy, const struct sluice_get_info *info)
{
	int tries = 1000;

	while (sluice_page_copy(page, copy, info->page_bytes, 1000))
		if (!tries--)
			tap_bail("no consistent copy of the page in a million tries");
}

void *guest_copy_new(const struct sluice_get_info *info)
{
	void *copy = calloc(1, info->page_bytes);

	if (!copy)
		tap_bail("no memory");
	return copy;
}

bool guest_wait_sample(const void *page, uint64_t sample_nr, unsigned int ms)
{
	const struct sluice_page *head = page;
	const struct timespec nap = { .tv_nsec = 1000000 };
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		if (__atomic_load_n(&head->sample_nr, __ATOMIC_ACQUIRE) > sample_nr)
			return true;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >
		    (long)ms)
			return false;
		nanosleep(&nap, NULL);
	}
}

static int path_open(int flags, const char *format, va_list args)
{
	char path[256];
	int fd;

	vsnprintf(path, sizeof(path), format, args);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int read_all(int fd, char *buf, size_t bytes)
{
	size_t have = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	while (have < bytes - 1 && (n = read(fd, buf + have, bytes - 1 - have)) > 0)
		have += (size_t)n;
	close(fd);
	while (have && buf[have - 1] == '\n')
		have--;
	buf[have] = '\0';
	return (int)have;
}

int file_read(char *buf, size_t bytes, const char *format, ...)
{
	va_list args;
	int fd;

	va_start(args, format);
	fd = path_open(O_RDONLY, format, args);
	va_end(args);
	return read_all(fd, buf, bytes);
}

long long file_number(long long missing, const char *format, ...)
{
	char text[64], *end;
	long long value;
	va_list args;
	int fd;

	va_start(args, format);
	fd = path_open(O_RDONLY, format, args);
	va_end(args);
	if (read_all(fd, text, sizeof(text)) <= 0)
		return missing;
	value = strtoll(text, &end, 0);
	return end == text ? missing : value;
}

int file_write(const char *text, const char *format, ...)
{
	va_list args;
	int fd, rc;

	va_start(args, format);
	fd = path_open(O_WRONLY, format, args);
	va_end(args);
	if (fd < 0)
		return fd;
	rc = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

bool list_has(const char *list, unsigned int n)
{
	while (isdigit((unsigned char)*list)) {
		char *end;
		unsigned long first = strtoul(list, &end, 10), last = first;

		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (n >= first && n <= last)
			return true;
		list = *end == ',' ? end + 1 : end;
	}
	return false;
}

int guest_as_nobody(int (*run)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return -1;
	if (!pid) {
		if (setgroups(0, NULL) || setgid(65534) || setuid(65534))
			_exit(255);
		_exit(run(arg));
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

unsigned int guest_pci_list(struct pci_address *list, unsigned int max, unsigned int vendor,
			    unsigned int device)
{
	const char *root = "/sys/bus/pci/devices";
	unsigned int nr = 0, dev, func;
	struct dirent **names;
	int i, n;

	n = scandir(root, &names, NULL, alphasort);
	for (i = 0; i < n; i++) {
		struct pci_address *at = &list[nr];

		if (nr < max && names[i]->d_name[0] != '.' && strlen(names[i]->d_name) < 16 &&
		    file_number(0, "%s/%s/vendor", root, names[i]->d_name) == vendor &&
		    file_number(0, "%s/%s/device", root, names[i]->d_name) == device &&
		    sscanf(names[i]->d_name, "%x:%x:%x.%x", &at->domain, &at->bus, &dev, &func) ==
			    4) {
			memcpy(at->name, names[i]->d_name, strlen(names[i]->d_name) + 1);
			at->devfn = dev << 3 | func;
			nr++;
		}
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return nr;
}

int guest_watch_pci(int fd, const struct pci_address *address)
{
	struct sluice_watch_pci arg = {
		.size = sizeof(arg),
		.domain = address->domain,
		.bus = (__u8)address->bus,
		.devfn = (__u8)address->devfn,
	};

	return ioctl(fd, SLUICE_WATCH_PCI, &arg) ? -errno : (int)arg.slot;
}

int guest_watch_clock(int fd, unsigned int cpu)
{
	struct sluice_watch_pmu arg = {
		.size = sizeof(arg),
		.type = 1,   /* PERF_TYPE_SOFTWARE */
		.config = 0, /* PERF_COUNT_SW_CPU_CLOCK */
		.cpu = cpu,
	};

	return ioctl(fd, SLUICE_WATCH_PMU, &arg) ? -errno : (int)arg.slot;
}

int guest_unwatch(int fd, uint32_t what, uint32_t slot)
{
	struct sluice_unwatch arg = { .size = sizeof(arg), .what = what, .slot = slot };

	return ioctl(fd, SLUICE_UNWATCH, &arg) ? -errno : 0;
}

int guest_period(int fd, uint32_t ms)
{
	struct sluice_set_period arg = { .size = sizeof(arg), .period_ms = ms };

	return ioctl(fd, SLUICE_SET_PERIOD, &arg) ? -errno : (int)arg.period_ms;
}
