/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/sysfs.c: the source that every Linux has: /sys and /proc, read as files.
 *
 * Ten samples a second must stay cheap on a machine with eight nodes and thirty links, so each kind
 * of datum is read as often as it changes: bytes, disks and pressure every time; huge pages, link
 * states and error counts once a second; what exists at all every five seconds. What was not read
 * again keeps the time it was read at.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "telemetry/sysfs.h"

#define SLOW_NS	    900000000u /* a little less than a second: ten ticks do not drift past it */
#define TOPOLOGY_NS 4900000000u
#define BUF_BYTES   (256u << 10)

struct sysfs {
	struct fs fs;
	struct telemetry_snapshot seen; /* kept from sample to sample */
	struct sysfs_path paths[TELEMETRY_MAX_PCI];
	uint64_t topology_ns, slow_ns; /* when last read */
	bool begun;
	char *buf;
};

static void sysfs_close(void *state)
{
	struct sysfs *f = state;

	if (!f)
		return;
	fs_close(&f->fs);
	free(f->buf);
	free(f);
}

static int sysfs_open(const struct telemetry_config *config, void **ret_state, struct err *err)
{
	struct sysfs *f = calloc(1, sizeof(*f));
	struct telemetry_sample *empty = malloc(sizeof(*empty));
	int rc = -ENOMEM;

	if (f)
		f->fs.dir = -1;
	if (!f || !empty)
		goto out_fail;
	telemetry_sample_init(empty);
	f->seen = empty->state;
	f->buf = malloc(BUF_BYTES);
	if (!f->buf)
		goto out_fail;
	rc = fs_open(&f->fs, config->root);
	if (rc) {
		err_set(err, rc, "cannot open %s: %s", config->root ? config->root : "/",
			strerror(-rc));
		goto out_fail;
	}
	free(empty);
	*ret_state = f;
	return 0;
out_fail:
	free(empty);
	sysfs_close(f);
	return rc;
}

/* Functions that left are dropped, those that stayed keep their values. */
static void find_functions(struct sysfs *f, uint64_t now)
{
	struct telemetry_snapshot *s = &f->seen;
	struct telemetry_pci *old = malloc(sizeof(s->pci));
	char bdf[TELEMETRY_MAX_PCI][16];
	uint32_t n_old = s->n_pci, n;
	bool more;

	if (!old)
		return; /* the next round will do */
	memcpy(old, s->pci, sizeof(s->pci));
	n = sysfs_pci_find(&f->fs, bdf, ARRAY_LEN(bdf), &more);
	s->truncated |= more;
	s->n_pci = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct telemetry_pci *p = telemetry_pci_at(s, bdf[i]);

		for (uint32_t k = 0; k < n_old; k++)
			if (!strcmp(old[k].bdf, bdf[i]))
				*p = old[k];
		sysfs_pci_path(&f->fs, bdf[i], &f->paths[i]);
		sysfs_pci_constant(&f->fs, &f->paths[i], p);
		if (p->origin.source == TELEMETRY_NONE)
			telemetry_mark(s, TELEMETRY_GROUP_PCI, &p->origin, TELEMETRY_SYSFS, now);
	}
	free(old);
}

static void read_links(struct sysfs *f, uint64_t now)
{
	for (uint32_t i = 0; i < f->seen.n_pci; i++) {
		struct telemetry_pci *p = &f->seen.pci[i];

		sysfs_pci_links(&f->fs, &f->paths[i], p);
		if (p->asleep != TELEMETRY_YES)
			telemetry_mark(&f->seen, TELEMETRY_GROUP_PCI, &p->origin, TELEMETRY_SYSFS,
				       now);
	}
}

static int sysfs_sample(void *state, uint64_t now, struct telemetry_sample *sample)
{
	struct sysfs *f = state;

	if (!f->begun || now - f->topology_ns >= TOPOLOGY_NS) {
		f->seen.truncated = false;
		sysfs_node_topology(&f->fs, &f->seen, now);
		find_functions(f, now);
		f->topology_ns = now;
	}
	if (!f->begun || now - f->slow_ns >= SLOW_NS) {
		sysfs_node_slow(&f->fs, &f->seen, now);
		read_links(f, now);
		f->slow_ns = now;
	}
	f->begun = true;
	sysfs_node_memory(&f->fs, &f->seen, now);
	sysfs_disks(&f->fs, &f->seen, now, f->buf, BUF_BYTES);
	sysfs_pressure(&f->fs, &f->seen, now);
	sample->state = f->seen;
	return 0;
}

const struct telemetry_ops telemetry_sysfs_ops = {
	.source = TELEMETRY_SYSFS,
	.open = sysfs_open,
	.sample = sysfs_sample,
	.close = sysfs_close,
};
