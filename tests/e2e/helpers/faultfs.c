/* SPDX-License-Identifier: MIT */
/*
 * tests/e2e/helpers/faultfs.c: a FUSE file system with one file, whose reads fail as told.
 *
 * usage: faultfs BACKING RULES MOUNTPOINT -f
 * The file appears as MOUNTPOINT/model.gguf. RULES is read again at every read; its lines:
 *	eio OFFSET LENGTH	reads that touch the range fail with EIO
 *	once OFFSET LENGTH	the same, once per start of the program
 *	short N			reads give at most N bytes
 *	slow MS			reads take so long
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int backing = -1;
static const char *rules_path;
static atomic_int spent;

static int get_attributes(const char *path, struct stat *st, struct fuse_file_info *info)
{
	memset(st, 0, sizeof(*st));
	if (!strcmp(path, "/")) {
		st->st_mode = S_IFDIR | 0755;
		st->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, "/model.gguf"))
		return -ENOENT;
	if (fstat(backing, st))
		return -errno;
	st->st_mode = S_IFREG | 0644;
	return 0;
}

static int open_file(const char *path, struct fuse_file_info *info)
{
	info->direct_io = 1; /* every read comes here */
	return strcmp(path, "/model.gguf") ? -ENOENT : 0;
}

static int read_file(const char *path, char *buf, size_t size, off_t offset,
		     struct fuse_file_info *info)
{
	char line[128], what[16];
	long long a, b;
	FILE *rules = fopen(rules_path, "r");
	ssize_t n;

	while (rules && fgets(line, sizeof(line), rules)) {
		int fields = sscanf(line, "%15s %lld %lld", what, &a, &b);

		if (fields == 3 && offset < a + b && a < offset + (off_t)size &&
		    (!strcmp(what, "eio") ||
		     (!strcmp(what, "once") && !atomic_exchange(&spent, 1)))) {
			fclose(rules);
			return -EIO;
		}
		if (fields == 2 && !strcmp(what, "short") && size > (size_t)a)
			size = (size_t)a;
		if (fields == 2 && !strcmp(what, "slow"))
			usleep((useconds_t)a * 1000);
	}
	if (rules)
		fclose(rules);
	n = pread(backing, buf, size, offset);
	return n < 0 ? -errno : (int)n;
}

static const struct fuse_operations operations = {
	.getattr = get_attributes,
	.open = open_file,
	.read = read_file,
};

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	backing = open(argv[1], O_RDONLY);
	if (backing < 0) {
		perror(argv[1]);
		return 1;
	}
	rules_path = argv[2];
	argv[2] = argv[0];
	return fuse_main(argc - 2, argv + 2, &operations, NULL);
}
