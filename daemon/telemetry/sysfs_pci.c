/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/sysfs_pci.c: PCIe links: which functions matter, what their link and the links
 * above them run at, what both ends of each could do. Does not wake a sleeping device: its link
 * files are not opened. See sysfs.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "telemetry/sysfs.h"

#define PCI_DIR	      "sys/bus/pci/devices"
#define MAX_FOUND     1024
#define CLASS_UNKNOWN 0

/* What a function is to us, best first; 0: nothing. */
static unsigned interest(uint64_t class_code)
{
	switch (class_code >> 16) {
	case 0x03: /* display */
	case 0x12: /* accelerator */
		return 3;
	case 0x01: /* storage */
		return 2;
	case 0x02: /* network */
		return 1;
	}
	return 0;
}

struct found {
	char bdf[16];
	unsigned interest;
};

struct find {
	const struct fs *fs;
	struct found *found;
	uint32_t n;
};

static bool find_one(void *arg, const char *name)
{
	struct find *f = arg;
	uint64_t class_code;
	char text[FS_PATH_MAX];
	unsigned value;

	if (!text_is_bdf(name, strlen(name)))
		return true;
	class_code = fs_u64(f->fs, PCI_DIR "/%s/class", name);
	value = class_code == TELEMETRY_UNKNOWN ? 0 : interest(class_code);
	/* virtual functions of a network card may be hundreds: the card itself is enough */
	if (!value ||
	    (value == 1 && fs_link(f->fs, text, sizeof(text), PCI_DIR "/%s/physfn", name) > 0))
		return true;
	if (f->n == MAX_FOUND)
		return false;
	snprintf(f->found[f->n].bdf, sizeof(f->found[0].bdf), "%s", name);
	f->found[f->n++].interest = value;
	return true;
}

static int compare_found(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->interest != y->interest)
		return x->interest > y->interest ? -1 : 1;
	return strcmp(x->bdf, y->bdf);
}

uint32_t sysfs_pci_find(const struct fs *fs, char (*bdf)[16], uint32_t room, bool *ret_more)
{
	struct find f = { fs, calloc(MAX_FOUND, sizeof(struct found)), 0 };
	uint32_t n = 0;

	*ret_more = false;
	if (!f.found)
		return 0;
	if (!fs_list(fs, PCI_DIR, find_one, &f))
		qsort(f.found, f.n, sizeof(f.found[0]), compare_found);
	for (; n < f.n && n < room; n++)
		memcpy(bdf[n], f.found[n].bdf, sizeof(bdf[n]));
	*ret_more = f.n > n;
	free(f.found);
	return n;
}

void sysfs_pci_path(const struct fs *fs, const char *bdf, struct sysfs_path *ret)
{
	char text[FS_PATH_MAX];
	const char *at = text;

	ret->n = 0;
	if (fs_link(fs, text, sizeof(text), PCI_DIR "/%s", bdf) <= 0)
		text[0] = '\0';
	while (*at && ret->n < SYSFS_PCI_DEPTH) {
		size_t len = strcspn(at, "/");

		if (text_is_bdf(at, len)) {
			memcpy(ret->bdf[ret->n], at, len);
			ret->bdf[ret->n++][len] = '\0';
		}
		at += len + (at[len] == '/');
	}
	if (ret->n && !strcmp(ret->bdf[ret->n - 1], bdf))
		return;
	/* no link, or it leads elsewhere: the function alone */
	snprintf(ret->bdf[0], sizeof(ret->bdf[0]), "%s", bdf);
	ret->n = 1;
}

/* "16.0 GT/s PCIe", "8 GT/s", "Unknown" -> 10^6 transfers per second. */
static uint64_t read_speed(const struct fs *fs, const char *bdf, const char *file)
{
	char text[64];
	const char *at = text;
	uint64_t whole = 0, part = 0;

	if (fs_text(fs, text, sizeof(text), PCI_DIR "/%s/%s_link_speed", bdf, file) <= 0)
		return TELEMETRY_UNKNOWN;
	for (; *at >= '0' && *at <= '9' && whole < 1000; at++)
		whole = whole * 10 + (uint64_t)(*at - '0');
	if (at == text || whole >= 1000)
		return TELEMETRY_UNKNOWN;
	if (*at == '.' && at[1] >= '0' && at[1] <= '9') {
		part = (uint64_t)(at[1] - '0') * 100;
		at += 2;
	}
	if (strncmp(at, " GT/s", 5) || !(whole * 1000 + part))
		return TELEMETRY_UNKNOWN;
	return whole * 1000 + part;
}

static uint64_t read_width(const struct fs *fs, const char *bdf, const char *file)
{
	uint64_t width = fs_u64(fs, PCI_DIR "/%s/%s_link_width", bdf, file);

	return width >= 1 && width <= 32 ? width : TELEMETRY_UNKNOWN; /* 0, 63, 255: no link */
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return u64_min(a, b); /* UNKNOWN is the largest number */
}

static uint64_t read_aer(const struct fs *fs, const char *bdf, const char *file, const char *total)
{
	char text[2048];
	const char *at, *end;
	uint64_t value;

	if (fs_text(fs, text, sizeof(text), PCI_DIR "/%s/aer_dev_%s", bdf, file) <= 0)
		return TELEMETRY_UNKNOWN;
	at = strstr(text, total);
	if (!at || !text_word_u64(at + strlen(total), &value, &end))
		return TELEMETRY_UNKNOWN;
	return value;
}

void sysfs_pci_constant(const struct fs *fs, const struct sysfs_path *path, struct telemetry_pci *p)
{
	uint64_t class_code = fs_u64(fs, PCI_DIR "/%s/class", p->bdf);
	uint64_t least = TELEMETRY_UNKNOWN;

	p->class_code = class_code <= 0xffffff ? (uint32_t)class_code : CLASS_UNKNOWN;
	p->node = fs_index(fs, NODES_KNOWN - 1, PCI_DIR "/%s/numa_node", p->bdf);
	p->far_end_unknown = path->n < 2;
	for (uint32_t i = path->n; i-- > 0;) {
		uint64_t speed = read_speed(fs, path->bdf[i], "max");
		uint64_t width = read_width(fs, path->bdf[i], "max");

		if (i) {
			speed = lesser(speed, read_speed(fs, path->bdf[i - 1], "max"));
			width = lesser(width, read_width(fs, path->bdf[i - 1], "max"));
		} else if (path->n > 1) {
			break; /* the root port: its link was judged with what hangs below it */
		}
		if (i == path->n - 1) {
			p->max_speed_mts = speed;
			p->max_width = width;
		}
		least = lesser(least, telemetry_link_bytes_per_s(speed, width));
	}
	p->max_bandwidth_bytes_per_s = least;
}

static enum telemetry_answer asleep(const struct fs *fs, const char *bdf)
{
	char text[32];

	if (fs_text(fs, text, sizeof(text), PCI_DIR "/%s/power/runtime_status", bdf) <= 0)
		return TELEMETRY_MAYBE;
	return strncmp(text, "suspend", 7) ? TELEMETRY_NO : TELEMETRY_YES;
}

void sysfs_pci_links(const struct fs *fs, const struct sysfs_path *path, struct telemetry_pci *p)
{
	uint64_t least = TELEMETRY_UNKNOWN;

	p->asleep = asleep(fs, p->bdf);
	if (p->asleep == TELEMETRY_YES)
		return;
	p->limit_bdf[0] = '\0';
	for (uint32_t i = path->n; i-- > 0;) {
		uint64_t speed = read_speed(fs, path->bdf[i], "current");
		uint64_t width = read_width(fs, path->bdf[i], "current");
		uint64_t rate = telemetry_link_bytes_per_s(speed, width);

		if (i == path->n - 1) {
			p->speed_mts = speed;
			p->width = width;
		}
		if (rate == TELEMETRY_UNKNOWN || rate >= least)
			continue;
		least = rate;
		memcpy(p->limit_bdf, path->bdf[i], sizeof(p->limit_bdf));
	}
	p->bandwidth_bytes_per_s = least;
	p->aer_correctable = read_aer(fs, p->bdf, "correctable", "TOTAL_ERR_COR");
	p->aer_fatal = read_aer(fs, p->bdf, "fatal", "TOTAL_ERR_FATAL");
	p->aer_nonfatal = read_aer(fs, p->bdf, "nonfatal", "TOTAL_ERR_NONFATAL");
	telemetry_judge_link(p);
}
