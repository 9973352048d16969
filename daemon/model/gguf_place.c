/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf_place.c: whether the tensors that a header describes are in the file.
 *
 * They must follow each other without gap or overlap, aligned; all of them must be there, which a
 * download cut short does not fulfil; the header must not go on with a tensor that its count
 * leaves out; and behind the last tensor must not come another GGUF file, which is what parts
 * joined with cat look like. Other bytes behind the last tensor are nobody's and are left alone.
 * Called by gguf_parse() only, for one file at a time.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "model/gguf_impl.h"

/* Every place as the header claims it, before any is compared with the file's size. */
static int check_layout(struct gguf_shard *s, uint64_t *ret_end, struct err *err)
{
	uint64_t expected = 0, end = s->file.data_offset;
	char name[64];

	for (uint64_t i = 0; i < s->n_tensors; i++) {
		struct gguf_entry *e = &s->tensors[i];
		uint64_t offset = e->t.offset;
		const char *why = NULL;

		gguf_quote(name, e->name, strlen(e->name));
		if (offset & (s->alignment - 1))
			why = "is not aligned";
		else if (offset < expected)
			why = "overlaps the tensor before it";
		else if (offset > expected)
			why = "leaves a gap after the tensor before it";
		else if (u64_add_overflow(offset, e->t.bytes, &end) ||
			 u64_add_overflow(end, s->file.data_offset, &end) || end >> 62)
			why = "puts its end behind any file's end";
		if (why)
			return gguf_bad(s, e->at, err,
					"tensor %s: offset %llu %s (alignment %llu, %llu bytes, "
					"data from %llu, file of %llu bytes)",
					name, (unsigned long long)offset, why,
					(unsigned long long)s->alignment,
					(unsigned long long)e->t.bytes,
					(unsigned long long)s->file.data_offset,
					(unsigned long long)s->file.bytes);
		expected = align_up(offset + e->t.bytes, s->alignment);
		e->t.offset = s->file.data_offset + offset;
	}
	*ret_end = end;
	return 0;
}

/* The unit that download programs show for a size like this, and how many bytes it has. */
static const char *decimal_unit(uint64_t bytes, double *ret_scale)
{
	static const struct {
		const char *name;
		double scale;
	} units[] = { { "TB", 1e12 }, { "GB", 1e9 }, { "MB", 1e6 }, { "kB", 1e3 } };

	for (unsigned i = 0; i < ARRAY_LEN(units); i++)
		if ((double)bytes >= units[i].scale) {
			*ret_scale = units[i].scale;
			return units[i].name;
		}
	*ret_scale = 1;
	return "bytes";
}

static int refuse_short(const struct gguf_shard *s, uint64_t end, struct err *err)
{
	uint64_t have = s->file.bytes, i = 0;
	char name[64];
	double scale;
	const char *unit = decimal_unit(end, &scale);
	int digits = scale > 1;

	while (s->tensors[i].t.offset + s->tensors[i].t.bytes <= have)
		i++;
	return gguf_bad(
		s, have, err,
		"the file ends here, with %.*f of %.*f %s (missing: %llu bytes, from tensor "
		"%s on): the download or copy was cut short and must be continued, or "
		"this is one of several pieces that must be joined",
		digits, (double)have / scale, digits, (double)end / scale, unit,
		(unsigned long long)(end - have),
		gguf_quote(name, s->tensors[i].name, strlen(s->tensors[i].name)));
}

/* The bytes at @at, as many as the file has of the @n asked for. */
static size_t peek(const struct gguf_shard *s, uint64_t at, void *buf, size_t n)
{
	ssize_t got;

	do
		got = pread(s->file.fd, buf, n, (off_t)at);
	while (got < 0 && errno == EINTR);
	return got < 0 ? 0 : (size_t)got;
}

/* One more description of a tensor where the header ends: the count leaves it out. */
static int check_uncounted(const struct gguf_shard *s, uint64_t header_end, struct err *err)
{
	uint8_t buf[8 + GGUF_MAX_NAME + 4];
	size_t got = peek(s, header_end, buf, sizeof(buf));
	uint64_t len;
	uint32_t rank;
	char name[64];

	if (got < 13)
		return 0;
	memcpy(&len, buf, sizeof(len));
	if (len < 1 || len > GGUF_MAX_NAME || got < 12 + len)
		return 0;
	for (uint64_t i = 0; i < len; i++)
		if (buf[8 + i] <= ' ' || buf[8 + i] > '~')
			return 0;
	memcpy(&rank, buf + 8 + len, sizeof(rank));
	if (rank < 1 || rank > 4)
		return 0;
	return gguf_bad(s, header_end, err,
			"the header goes on with tensor %s behind the %llu that it counts: its "
			"tensor count (offset 8) is too small",
			gguf_quote(name, buf + 8, len), (unsigned long long)s->n_tensors);
}

/* The number of parts that a split model says it has, else 0. */
static uint64_t claimed_parts(const struct gguf_shard *s)
{
	const struct gguf_kv *kv = gguf_shard_key(s, "split.count");
	uint64_t n = 0;

	if (!kv || gguf_shard_u64(s, kv, &n, NULL))
		return 0;
	return n;
}

/* Another GGUF file where the data of this one end, exactly or padded. */
static int check_joined(const struct gguf_shard *s, uint64_t end, struct err *err)
{
	uint64_t places[] = { end, align_up(end, s->alignment) };

	for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
		uint64_t parts = claimed_parts(s);
		uint8_t head[8];

		if (peek(s, places[i], head, 8) < 8 || memcmp(head, "GGUF", 4) || head[4] > 9 ||
		    head[5] || head[6] || head[7])
			continue;
		return gguf_bad(s, places[i], err,
				"another GGUF file begins here, where the data of the first end: "
				"parts of a split model are not joined with cat; put them beside "
				"each other as NAME-00001-of-%05llu.gguf and so on and open the "
				"first (the first %llu bytes of this file are the first part)",
				(unsigned long long)(parts > 1 ? u64_min(parts, 99999) : 2),
				(unsigned long long)places[i]);
	}
	return 0;
}

int gguf_place_tensors(struct gguf_shard *s, uint64_t header_end, struct err *err)
{
	uint64_t end = 0;
	int rc;

	s->file.data_offset = align_up(header_end, s->alignment);
	rc = check_uncounted(s, header_end, err);
	if (!rc)
		rc = check_layout(s, &end, err);
	if (rc)
		return rc;
	if (s->n_tensors && end > s->file.bytes)
		return refuse_short(s, end, err);
	return check_joined(s, s->n_tensors ? end : header_end, err);
}
