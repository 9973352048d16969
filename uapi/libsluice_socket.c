/* SPDX-License-Identifier: MIT */
/*
 * uapi/libsluice_socket.c: where the daemon's socket is when nobody says. One function for both
 * sides, so that they agree: sluiced asks it where to listen, sluice_connect() where to look.
 *
 * A directory in /tmp could have been made by anybody. So both sides take it only where it is a
 * directory (not a link), belongs to this user and is closed to others; who else could plant a
 * socket there would read every prompt. /tmp is sticky, so that what was checked stays in place.
 */
#include "sluice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libsluice_wire.h"

#define NAME "sluice.sock"

/* Which kind of directory holds the socket. */
struct place {
	char dir[4096];
	mode_t mode;	/* to make it with; 0: not ours to make */
	mode_t refused; /* bits that it must not have */
};

bool sluice__socket_named(void)
{
	const char *named = secure_getenv("SLUICE_SOCKET");

	return named && *named;
}

static int choose(struct place *ret, struct sluice_fault *fault)
{
	const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
	uid_t uid = geteuid();
	int n;

	ret->mode = ret->refused = 0;
	if (!uid) {
		n = snprintf(ret->dir, sizeof(ret->dir), "%s", "/run/sluiced");
		ret->mode = 0755; /* for members of the socket's group */
		ret->refused = 0022;
	} else if (runtime && *runtime == '/') { /* its specification: else it counts as unset */
		n = snprintf(ret->dir, sizeof(ret->dir), "%s", runtime);
	} else {
		n = snprintf(ret->dir, sizeof(ret->dir), "/tmp/sluice-%u", (unsigned)uid);
		ret->mode = 0700;
		ret->refused = 0077;
	}
	if (n < (int)sizeof(ret->dir))
		return 0;
	return sluice__fail(fault, -ENAMETOOLONG, "XDG_RUNTIME_DIR is too long for a path");
}

static int refuse(const struct place *p, struct sluice_fault *fault, const char *why)
{
	return sluice__fail(fault, -EPERM,
			    "%.200s: %s; remove it, or say where the socket is: --socket PATH or "
			    "SLUICE_SOCKET",
			    p->dir, why);
}

/* 0 where the directory is safe, or -ENOENT. */
static int check(const struct place *p, struct sluice_fault *fault)
{
	int fd = open(p->dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int rc;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return refuse(p, fault, "it is a link or a file, not a directory");
	if (fd < 0)
		return sluice__fail(fault, -errno, "%.200s: %s", p->dir, strerror(errno));
	rc = fstat(fd, &st) ? sluice__fail(fault, -errno, "%.200s: %s", p->dir, strerror(errno))
			    : 0;
	close(fd);
	if (rc)
		return rc;
	if (st.st_uid != geteuid())
		return refuse(p, fault, "it is another user's directory");
	if (st.st_mode & p->refused)
		return refuse(p, fault, "other users may write to it or look into it");
	return 0;
}

/* A new directory gets its mode whatever the umask; one that is there is only checked. */
static int make(const struct place *p, struct sluice_fault *fault)
{
	int rc = check(p, fault);

	if (rc != -ENOENT)
		return rc;
	if ((mkdir(p->dir, 0700) || chmod(p->dir, p->mode)) && errno != EEXIST)
		return sluice__fail(fault, -errno, "cannot make the socket's directory %.200s: %s",
				    p->dir, strerror(errno));
	rc = check(p, fault);
	return rc == -ENOENT ? refuse(p, fault, "somebody removed it again") : rc;
}

int sluice_socket_path(uint32_t flags, char *ret, size_t len, struct sluice_fault *fault)
{
	struct place place;
	int n, rc;

	if (flags & ~SLUICE_MAKE_DIRECTORY)
		return sluice__fail(fault, -EOPNOTSUPP, "flags of sluice_socket_path: %#x", flags);
	if (sluice__socket_named()) {
		n = snprintf(ret, len, "%s", secure_getenv("SLUICE_SOCKET"));
		return (size_t)n < len ? 0
				       : sluice__fail(fault, -ENAMETOOLONG,
						      "SLUICE_SOCKET is too long for a path");
	}
	rc = choose(&place, fault);
	if (rc)
		return rc;
	/* Others' directories are theirs to guard; clients need not look into root's. */
	if (place.mode && flags & SLUICE_MAKE_DIRECTORY)
		rc = make(&place, fault);
	else if (place.mode == 0700)
		rc = check(&place, fault);
	if (rc && rc != -ENOENT) /* nothing there: nobody listens, which connecting will say */
		return rc;
	n = snprintf(ret, len, "%s/" NAME, place.dir);
	return (size_t)n < len ? 0
			       : sluice__fail(fault, -ENAMETOOLONG, "%.200s: too long for a path",
					      place.dir);
}
