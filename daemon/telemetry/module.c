/* SPDX-License-Identifier: MIT */
/*
 * daemon/telemetry/module.c: the kernel module's page behind /dev/sluice (uapi/sluice_telemetry.h).
 *
 * Maps the page read-only and copies it once a sample; no system call on the way unless the writer
 * is met every time. Counters and functions that somebody watches already are used as they are (a
 * privileged helper may have asked for them); what is missing is asked for, and refused requests
 * are left to the next source. A page that stands still is not believed. A file in the module's
 * place is taken only below a test root. Called by telemetry.c, one thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "telemetry/pmu.h"
#include "telemetry/sysfs.h"
#include "telemetry/telemetry.h"
#include "uapi/sluice_telemetry.h"

#define MAX_PAGE_BYTES (1u << 20)
#define TRIES	       64
#define STALE_NS       1000000000u /* beside ten periods */

struct watched {
	char bdf[16];
	struct sysfs_path path;
};

struct module {
	int fds[2]; /* the second one for more slots than one open file may hold */
	const void *page;
	void *copy;
	size_t bytes;
	struct fs fs;
	bool real; /* a device, not a test's file */
	struct watched pci[SLUICE_MAX_PCI];
	uint32_t n_pci;
	struct pmu_counter pmu[SLUICE_MAX_PMU]; /* what a socket's traffic is made of */
	uint32_t n_pmu;
};

static void module_close(void *state)
{
	struct module *m = state;

	if (!m)
		return;
	if (m->page)
		munmap((void *)(uintptr_t)m->page, m->bytes);
	for (size_t i = 0; i < ARRAY_LEN(m->fds); i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	fs_close(&m->fs);
	free(m->copy);
	free(m);
}

/* The version handshake, both ways. */
static int handshake(struct module *m, uint32_t *ret_bytes, struct err *err)
{
	struct sluice_get_info info = { .size = sizeof(info), .caller_abi = SLUICE_ABI_VERSION };
	struct sluice_page head;

	if (!m->real) {
		if (pread(m->fds[0], &head, sizeof(head), 0) != (ssize_t)sizeof(head))
			return err_set(err, -EPROTO, "the file in place of sluice.ko is short");
		*ret_bytes = head.page_bytes;
		return 0;
	}
	if (ioctl(m->fds[0], SLUICE_GET_INFO, &info)) {
		int rc = -errno;

		return err_set(err, rc,
			       rc == -EOPNOTSUPP
				       ? "sluice.ko is newer than this program and no longer "
					 "serves it: going on without the module"
				       : "%s does not answer like sluice.ko: going on without it",
			       SLUICE_DEVICE_PATH);
	}
	if (info.abi_version < 1 || info.abi_oldest > SLUICE_ABI_VERSION)
		return err_set(err, -EPROTO,
			       "sluice.ko speaks version %u and we speak %u: going on without it",
			       info.abi_version, SLUICE_ABI_VERSION);
	*ret_bytes = info.page_bytes;
	return 0;
}

static bool head_is_sane(const struct sluice_page *h, size_t bytes)
{
	return h->magic == SLUICE_PAGE_MAGIC && h->page_bytes == bytes && h->abi_version >= 1 &&
	       h->head_bytes >= offsetof(struct sluice_page, reserved0) && h->head_bytes <= bytes &&
	       h->node_nr <= SLUICE_MAX_NODES * 16 && h->pci_nr <= SLUICE_MAX_PCI * 16 &&
	       h->pmu_nr <= SLUICE_MAX_PMU * 16;
}

static int map_page(struct module *m, uint32_t bytes, struct err *err)
{
	long page_size = sysconf(_SC_PAGESIZE);
	void *page;

	if (bytes < sizeof(struct sluice_page) || bytes > MAX_PAGE_BYTES || page_size <= 0 ||
	    bytes % (uint32_t)page_size)
		return err_set(err, -EPROTO, "sluice.ko says a page of %u bytes: not believed",
			       bytes);
	m->bytes = bytes;
	m->copy = aligned_alloc(64, bytes);
	if (!m->copy)
		return -ENOMEM;
	page = mmap(NULL, bytes, PROT_READ, MAP_SHARED, m->fds[0], 0);
	if (page == MAP_FAILED)
		return err_set(err, -errno, "cannot map the page of sluice.ko: %s",
			       strerror(errno));
	m->page = page;
	if (!head_is_sane(page, bytes))
		return err_set(err, -EPROTO, "the page of sluice.ko is not of a form we know");
	return 0;
}

/* By the mapping, or by read() where the writer was met every time. */
static int copy_page(struct module *m)
{
	int rc = sluice_page_copy(m->page, m->copy, m->bytes, TRIES);

	if (rc == -EAGAIN && m->real)
		rc = pread(m->fds[0], m->copy, m->bytes, 0) == (ssize_t)m->bytes ? 0 : -EAGAIN;
	if (!rc && !head_is_sane(m->copy, m->bytes))
		rc = -EPROTO;
	return rc;
}

/* An entry as this program knows it, whatever its length on the page; false past the end. */
static bool entry_at(const struct module *m, uint32_t offset, uint32_t stride, uint32_t nr,
		     uint32_t index, void *ret, size_t size)
{
	const void *at = sluice_page_entry(m->copy, offset, stride, nr, index);

	if (!at)
		return false;
	memset(ret, 0, size);
	memcpy(ret, at, stride < size ? stride : size);
	return true;
}

#define ENTRY(m, array, index, ret)                                          \
	entry_at(m, ((const struct sluice_page *)(m)->copy)->array##_offset, \
		 ((const struct sluice_page *)(m)->copy)->array##_stride,    \
		 ((const struct sluice_page *)(m)->copy)->array##_nr, index, ret, sizeof(*(ret)))

static void pci_bdf(uint32_t domain, unsigned bus, unsigned devfn, char ret[16])
{
	if (domain > 0xfffff)
		ret[0] = '\0';
	else
		snprintf(ret, 16, "%04x:%02x:%02x.%u", domain, bus & 0xff, devfn >> 3 & 0x1f,
			 devfn & 7);
}

static bool on_page(const struct module *m, const char *bdf)
{
	struct sluice_pci p;

	for (uint32_t i = 0; ENTRY(m, pci, i, &p); i++) {
		char have[16];

		pci_bdf(p.domain, p.bus, p.devfn, have);
		if (p.state != SLUICE_SLOT_FREE && p.state != SLUICE_SLOT_GONE &&
		    !strcmp(have, bdf))
			return true;
	}
	return false;
}

/* One request; more slots than a file may hold are asked for through a second one. */
static int ask(struct module *m, unsigned long request, void *arg)
{
	for (size_t i = 0; i < ARRAY_LEN(m->fds); i++) {
		if (m->fds[i] < 0)
			m->fds[i] = open(SLUICE_DEVICE_PATH, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (m->fds[i] < 0)
			return -errno;
		if (!ioctl(m->fds[i], request, arg))
			return 0;
		if (errno != EDQUOT)
			return -errno;
	}
	return -EDQUOT;
}

static void watch_pci(struct module *m)
{
	char bdf[SLUICE_MAX_PCI][16];
	bool more;
	uint32_t n = sysfs_pci_find(&m->fs, bdf, ARRAY_LEN(bdf), &more);

	for (uint32_t i = 0; i < n; i++) {
		struct sluice_watch_pci watch = { .size = sizeof(watch) };
		unsigned domain, bus, device, function;

		if (sscanf(bdf[i], "%x:%x:%x.%u", &domain, &bus, &device, &function) != 4)
			continue;
		watch.domain = domain;
		watch.bus = (uint8_t)bus;
		watch.devfn = (uint8_t)(device << 3 | function);
		if (!on_page(m, bdf[i]) && (!m->real || ask(m, SLUICE_WATCH_PCI, &watch)))
			continue;
		memcpy(m->pci[m->n_pci].bdf, bdf[i], sizeof(bdf[i]));
		sysfs_pci_path(&m->fs, bdf[i], &m->pci[m->n_pci++].path);
	}
}

static bool same_counter(const struct sluice_pmu *a, const struct pmu_counter *b)
{
	return a->type == b->type && a->cpu == b->cpu && a->config == b->config &&
	       a->config1 == b->config1 && a->config2 == b->config2;
}

/* The slot that counts what @c does, or -1. */
static int find_slot(const struct module *m, const struct pmu_counter *c, struct sluice_pmu *ret)
{
	for (uint32_t i = 0; ENTRY(m, pmu, i, ret); i++)
		if ((ret->state == SLUICE_SLOT_OK || ret->state == SLUICE_SLOT_LOST) &&
		    same_counter(ret, c) && ret->bytes_per_count == c->bytes_per_count)
			return (int)i;
	return -1;
}

static uint32_t kind_code(enum telemetry_kind kind)
{
	return kind == TELEMETRY_READ	 ? SLUICE_PMU_READ
	       : kind == TELEMETRY_WRITE ? SLUICE_PMU_WRITE
					 : SLUICE_PMU_TOTAL;
}

static void watch_pmu(struct module *m)
{
	struct sluice_pmu slot;
	struct err why = { 0 };
	int n = pmu_find(&m->fs, m->pmu, ARRAY_LEN(m->pmu), &why);

	m->n_pmu = n > 0 ? (uint32_t)n : 0;
	for (uint32_t i = 0; i < m->n_pmu && m->real; i++) {
		const struct pmu_counter *c = &m->pmu[i];
		struct sluice_watch_pmu watch = {
			.size = sizeof(watch),
			.type = c->type,
			.cpu = c->cpu,
			.config = c->config,
			.config1 = c->config1,
			.config2 = c->config2,
			.bytes_per_count = c->bytes_per_count,
			.kind = kind_code(c->kind),
		};

		if (find_slot(m, c, &slot) < 0 && ask(m, SLUICE_WATCH_PMU, &watch))
			return; /* its socket is left to perf, as a whole */
	}
}

static int open_device(struct module *m, const struct telemetry_config *config, struct err *err)
{
	bool rooted = config->root && *config->root;
	char path[FS_PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s%s", rooted ? config->root : "", SLUICE_DEVICE_PATH);
	m->fds[0] = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (m->fds[0] < 0) {
		int rc = -errno;

		if (rc == -ENOENT || rc == -ENXIO || rc == -ENODEV)
			return err_set(err, rc,
				       "sluice.ko is not loaded: its values come from perf and "
				       "sysfs, where those have them");
		return err_set(err, rc,
			       "no access to %s (%s; group sluice may read it): its values come "
			       "from perf and sysfs",
			       path, strerror(-rc));
	}
	if (fstat(m->fds[0], &st))
		return -errno;
	m->real = S_ISCHR(st.st_mode);
	if (!m->real && !(rooted && S_ISREG(st.st_mode)))
		return err_set(err, -EPROTO, "%s is not a device: not used", path);
	return fs_open(&m->fs, config->root);
}

static int module_open(const struct telemetry_config *config, void **ret_state, struct err *err)
{
	struct module *m = calloc(1, sizeof(*m));
	uint32_t bytes = 0;
	int rc;

	if (!m)
		return -ENOMEM;
	m->fds[0] = m->fds[1] = m->fs.dir = -1;
	rc = open_device(m, config, err);
	if (!rc)
		rc = handshake(m, &bytes, err);
	if (!rc)
		rc = map_page(m, bytes, err);
	if (!rc)
		rc = copy_page(m);
	if (rc) {
		module_close(m);
		return rc;
	}
	watch_pci(m);
	watch_pmu(m);
	*ret_state = m;
	return 0;
}

static void take_nodes(const struct module *m, struct telemetry_snapshot *s)
{
	struct sluice_node e, other;

	for (uint32_t i = 0; ENTRY(m, node, i, &e); i++) {
		struct telemetry_node *n;

		if (!(e.flags & SLUICE_NODE_ONLINE) || e.node >= NODES_KNOWN)
			continue;
		n = telemetry_node_at(s, (int)e.node);
		if (!n)
			return;
		if (e.free_bytes <= e.total_bytes) {
			n->total_bytes = e.total_bytes;
			n->free_bytes = e.free_bytes;
			n->file_bytes = e.file_bytes;
			n->anon_bytes = e.anon_bytes;
			telemetry_mark(s, TELEMETRY_GROUP_MEMORY, &n->memory, TELEMETRY_MODULE,
				       e.updated_ns);
		}
		for (uint32_t k = 0; k < SLUICE_MAX_NODES && ENTRY(m, node, k, &other); k++)
			if (other.node < NODES_KNOWN)
				n->distance[other.node] = e.distance[k];
		telemetry_mark(s, TELEMETRY_GROUP_DISTANCE, &n->distances, TELEMETRY_MODULE,
			       e.updated_ns);
	}
}

static uint64_t or_unknown(uint64_t value)
{
	return value ? value : TELEMETRY_UNKNOWN;
}

/*
 * The kernel names a link by either end. From the root down ports alternate: one whose link leads
 * down, one whose link leads up; of the former's link the lower end is the next on the way.
 */
static void set_limit(const struct watched *w, const char *bdf, struct telemetry_pci *p)
{
	const char *lower = bdf;

	for (uint32_t i = 0; i + 1 < w->path.n; i += 2)
		if (!strcmp(w->path.bdf[i], bdf))
			lower = w->path.bdf[i + 1];
	snprintf(p->limit_bdf, sizeof(p->limit_bdf), "%s", lower);
}

static void take_function(const struct module *m, const struct watched *w,
			  struct telemetry_snapshot *s)
{
	struct telemetry_pci *p;
	struct sluice_pci e;
	char bdf[16];

	for (uint32_t i = 0; ENTRY(m, pci, i, &e); i++) {
		pci_bdf(e.domain, e.bus, e.devfn, bdf);
		if ((e.state != SLUICE_SLOT_OK && e.state != SLUICE_SLOT_ASLEEP) ||
		    strcmp(bdf, w->bdf))
			continue;
		p = telemetry_pci_at(s, bdf);
		if (!p)
			return;
		p->node = e.node >= 0 && e.node < NODES_KNOWN ? e.node : -1;
		p->class_code = e.class_code <= 0xffffff ? e.class_code : 0;
		p->far_end_unknown = w->path.n < 2;
		p->asleep = e.state == SLUICE_SLOT_ASLEEP ? TELEMETRY_YES : TELEMETRY_NO;
		telemetry_mark(s, TELEMETRY_GROUP_PCI, &p->origin, TELEMETRY_MODULE, e.updated_ns);
		if (!(e.flags & SLUICE_PCI_EXPRESS))
			return;
		p->speed_mts = or_unknown(e.cur_speed_mts);
		p->width = or_unknown(e.cur_width);
		p->max_speed_mts = or_unknown(e.max_speed_mts);
		p->max_width = or_unknown(e.max_width);
		p->bandwidth_bytes_per_s = e.limit_mbps ? (uint64_t)e.limit_mbps * 125000
							: TELEMETRY_UNKNOWN;
		if (e.limit_mbps) {
			pci_bdf(e.limit_domain, e.limit_bus, e.limit_devfn, bdf);
			set_limit(w, bdf, p);
		}
		telemetry_judge_link(p);
		return;
	}
}

static void take_counter(struct telemetry_sample *sample, const struct pmu_counter *c,
			 const struct sluice_pmu *slot, uint32_t index)
{
	struct telemetry_counter *to = telemetry_counter_add(sample);

	if (!to)
		return;
	*to = (struct telemetry_counter){
		.key = index,
		.generation = slot->generation,
		.lost = slot->state != SLUICE_SLOT_OK,
		.source = TELEMETRY_MODULE,
		.kind = c->kind,
		.socket = c->socket,
		.bytes_per_count = slot->bytes_per_count,
		.count = slot->count,
		.enabled_ns = slot->enabled_ns,
		.running_ns = slot->running_ns,
		.updated_ns = slot->updated_ns,
	};
}

/* A socket is counted here only if each of its counters has a slot. */
static void take_counters(const struct module *m, struct telemetry_sample *sample)
{
	struct sluice_pmu slots[SLUICE_MAX_PMU];
	int found[SLUICE_MAX_PMU];

	for (uint32_t i = 0; i < m->n_pmu; i++)
		found[i] = find_slot(m, &m->pmu[i], &slots[i]);
	for (uint32_t i = 0; i < m->n_pmu; i++) {
		bool whole = true;

		for (uint32_t k = 0; k < m->n_pmu; k++)
			whole &= m->pmu[k].socket != m->pmu[i].socket || found[k] >= 0;
		if (whole)
			take_counter(sample, &m->pmu[i], &slots[i], (uint32_t)found[i]);
	}
}

static int module_sample(void *state, uint64_t now, struct telemetry_sample *sample)
{
	struct module *m = state;
	const struct sluice_page *head = m->copy;
	int rc = copy_page(m);

	if (rc)
		return rc;
	/* ten periods, of which one may be of any length that the module allows */
	if (now > head->updated_ns &&
	    now - head->updated_ns >
		    u64_min(head->period_ns, SLUICE_PERIOD_MAX_MS * 1000000ull) * 10 + STALE_NS)
		return -ESTALE;
	sample->state.truncated = head->flags & SLUICE_PAGE_TRUNCATED;
	if (head->flags & SLUICE_PAGE_NODES)
		take_nodes(m, &sample->state);
	for (uint32_t i = 0; i < m->n_pci; i++)
		take_function(m, &m->pci[i], &sample->state);
	take_counters(m, sample);
	return 0;
}

const struct telemetry_ops telemetry_module_ops = {
	.source = TELEMETRY_MODULE,
	.open = module_open,
	.sample = module_sample,
	.close = module_close,
};
