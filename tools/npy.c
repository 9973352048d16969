/* SPDX-License-Identifier: MIT */
/* tools/npy.c: see npy.h. Layout: numpy.lib.format, version 1.0: magic, header length, a dict. */
#include "tools/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "tools/input.h"

#define HEADER_BYTES 128 /* magic and dict together, a multiple of 64 */

static int fail(const struct npy *f, struct err *err)
{
	int rc = errno ? -errno : -EIO;

	return err_set(err, rc, "%s: %s", f->part, strerror(-rc));
}

/* The header has one size whatever the shape, so it can be written again when that is known. */
static int write_header(struct npy *f)
{
	char header[HEADER_BYTES + 1];
	int n;

	memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10); /* 0x76 = 128 - 10 */
	n = snprintf(header + 10, sizeof(header) - 10,
		     "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRIu64 ", %" PRIu32
		     "), }",
		     f->rows, f->columns);
	memset(header + 10 + n, ' ', (size_t)(HEADER_BYTES - 10 - n));
	header[HEADER_BYTES - 1] = '\n';
	return fwrite(header, 1, HEADER_BYTES, f->file) == HEADER_BYTES ? 0 : -EIO;
}

int npy_open(struct npy *f, const char *path, uint32_t columns, struct err *err)
{
	memset(f, 0, sizeof(*f));
	if (strlen(path) >= sizeof(f->path))
		return err_set(err, -ENAMETOOLONG, "%s: name too long", path);
	if (input_is_special(path))
		return err_set(err, -EINVAL, "%s: not a file, and the logits go into one", path);
	strcpy(f->path, path);
	snprintf(f->part, sizeof(f->part), "%s.part", path);
	f->columns = columns;
	f->file = fopen(f->part, "we");
	if (!f->file || write_header(f)) {
		int rc = fail(f, err);

		npy_abandon(f);
		return rc;
	}
	return 0;
}

int npy_append(struct npy *f, const float *rows, uint64_t n, struct err *err)
{
	size_t count = (size_t)n * f->columns;

	if (fwrite(rows, sizeof(float), count, f->file) != count)
		return fail(f, err);
	f->rows += n;
	return 0;
}

int npy_close(struct npy *f, struct err *err)
{
	int rc = 0;

	errno = 0;
	if (fseek(f->file, 0, SEEK_SET) || write_header(f))
		rc = fail(f, err);
	if (fclose(f->file) && !rc)
		rc = fail(f, err);
	f->file = NULL;
	if (!rc && rename(f->part, f->path))
		rc = fail(f, err);
	if (rc)
		npy_abandon(f);
	return rc;
}

void npy_abandon(struct npy *f)
{
	if (f->file)
		fclose(f->file);
	f->file = NULL;
	unlink(f->part);
}
