/* SPDX-License-Identifier: MIT */
/*
 * What the test programs of the guest share: TAP on stdout, the module loaded and unloaded, the
 * page mapped, sysfs read. One program tests one feature and ends with `return tap_done();`.
 * They are static, run as root and alone in the guest, from the folder /. One thread unless
 * the program says otherwise.
 */
#ifndef SLUICE_TESTS_KMOD_GUEST_H
#define SLUICE_TESTS_KMOD_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "uapi/sluice_telemetry.h"

#define GUEST_MODULE_DIR "/sys/module/sluice"

/* One test point: "ok N - text" or "not ok N - text". Returns `good`. */
bool tap_ok(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As tap_ok(got == want), and on failure both numbers. */
bool tap_is(long long got, long long want, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A comment line. */
void tap_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One test point that cannot be tried here, with the reason. */
void tap_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints the plan. Returns the program's exit status: 0, 1, or 77 when every point was skipped. */
int tap_done(void);

/* A step that must work for the rest to make sense failed: prints it and ends the program with 1. */
void tap_bail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Load /sluice.ko with parameters ("stress=1", "" for none). 0 or -errno. */
int guest_load(const char *parameters);

/* Unload it. 0 or -errno (-EBUSY while it is used). */
int guest_unload(void);

/* guest_load() or tap_bail(), after the unload of what an earlier program left; unload or bail. */
void guest_need(const char *parameters);
void guest_drop(void);

/* The device opened read-only, or tap_bail(). The caller closes it. */
int guest_open(void);

/* GET_INFO on `fd`, or tap_bail(). */
void guest_info(int fd, struct sluice_get_info *ret_info);

/* The page mapped, or tap_bail(). munmap() of info->page_bytes is the caller's. */
const void *guest_map(int fd, const struct sluice_get_info *info);

/* A consistent copy of a mapped page into `copy` (guest_copy_new), or tap_bail(). */
void guest_copy(const void *page, void *copy, const struct sluice_get_info *info);

/* Zeroed memory for one page, aligned to 8 bytes; the caller frees it. */
void *guest_copy_new(const struct sluice_get_info *info);

/* Wait up to `ms` for the mapped page's sample_nr to pass `sample_nr`. True if it did. */
bool guest_wait_sample(const void *page, uint64_t sample_nr, unsigned int ms);

/* A file's text in `buf` without the last newline. Length or -errno. */
int file_read(char *buf, size_t bytes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* A number from a file, base 0 (0x.. works); `missing` when it cannot be read. */
long long file_number(long long missing, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Write text to a file. 0 or -errno. */
int file_write(const char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Is number `n` in a list such as "0-3,8"? */
bool list_has(const char *list, unsigned int n);

/* Start a child that becomes the user nobody without capabilities and returns run(arg) as its exit
 * status, which this function returns (0-255), or -1. */
int guest_as_nobody(int (*run)(void *arg), void *arg);

/* Addresses of PCI functions "dddd:bb:dd.f" of the given vendor and device; at most `max`.
 * Returns how many there are. */
struct pci_address {
	char name[16];
	unsigned int domain, bus, devfn;
};
unsigned int guest_pci_list(struct pci_address *list, unsigned int max, unsigned int vendor,
			    unsigned int device);

/* The virtio entropy devices that boot.sh puts behind the ports. */
#define GUEST_RNG_VENDOR 0x1af4
#define GUEST_RNG_DEVICE 0x1044

/* WATCH_PCI. Slot or -errno. */
int guest_watch_pci(int fd, const struct pci_address *address);

/* WATCH_PMU of the software clock of a CPU. Slot or -errno. */
int guest_watch_clock(int fd, unsigned int cpu);

/* UNWATCH. 0 or -errno. */
int guest_unwatch(int fd, uint32_t what, uint32_t slot);

/* SET_PERIOD. The period in force, or -errno. */
int guest_period(int fd, uint32_t ms);

#endif /* SLUICE_TESTS_KMOD_GUEST_H */
