/* SPDX-License-Identifier: MIT */
/* daemon/serve/payload.c: see payload.h. */
#include "serve/payload.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/read_at.h"
#include "base/write_all.h"
#include "uapi/sluice_proto.h"

static_assert(SLUICE_SEALS == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), "uapi");

static int check(int fd, uint64_t bytes, struct err *err)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return err_set(err, SLUICE_E_BAD_FD, "the attached descriptor is not a memfd");
	if ((seals & SLUICE_SEALS) != SLUICE_SEALS)
		return err_set(err, SLUICE_E_BAD_FD,
			       "the attached memfd is not sealed against shrink, grow and write");
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size < 0 ||
	    (uint64_t)st.st_size != bytes)
		return err_set(err, SLUICE_E_BAD_FD,
			       "the attached memfd does not have the %llu bytes announced",
			       (unsigned long long)bytes);
	return 0;
}

int payload_read(int fd, uint64_t bytes, uint8_t **ret, struct err *err)
{
	uint8_t *data;
	int rc = check(fd, bytes, err);

	if (rc)
		return rc;
	data = malloc(bytes + 1);
	if (!data)
		return err_set(err, SLUICE_E_NO_MEMORY, "out of memory for a payload");
	if (read_at(fd, data, bytes, 0)) {
		free(data);
		return err_set(err, SLUICE_E_BAD_FD, "the attached memfd cannot be read");
	}
	data[bytes] = 0;
	*ret = data;
	return 0;
}

int payload_open(void)
{
	int fd = memfd_create("sluice", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? -errno : fd;
}

int payload_append(int fd, const void *data, size_t bytes)
{
	return write_all(fd, data, bytes);
}

int payload_seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, SLUICE_SEALS | F_SEAL_SEAL) ? -errno : 0;
}

int payload_make(const void *data, uint64_t bytes)
{
	int fd = payload_open();
	int rc;

	if (fd < 0)
		return fd;
	rc = payload_append(fd, data, bytes);
	if (!rc)
		rc = payload_seal(fd);
	if (!rc)
		return fd;
	close(fd);
	return rc;
}
