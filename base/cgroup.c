/* SPDX-License-Identifier: MIT */
/*
 * base/cgroup.c: see cgroup.h.
 *
 * A line of /proc/self/cgroup says the group's path in its hierarchy, a line of
 * /proc/self/mountinfo which part of a hierarchy is mounted where. The folder of the group is the
 * mount point with the path behind the mounted part. Both files are read line by line: a machine
 * with many containers has thousands of mounts.
 */
#include "base/cgroup.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The process's own paths; "" where there is none. */
struct own_group {
	char v1[FS_PATH_MAX], v2[FS_PATH_MAX];
};

struct mount {
	bool v2;
	char *root;  /* path of the mounted part in its hierarchy */
	char *point; /* where it is mounted */
};

struct walk {
	const struct fs *fs;
	const char *controller;
	cgroup_level_fn each;
	void *arg;
	struct own_group own;
	bool fallback[2];  /* second pass, by version: no mount shows the process's own group */
	unsigned shown[2]; /* levels, by version: 1 at [0], 2 at [1] */
};

/* Is @word one of the comma-separated words of @list? */
static bool listed(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (;;) {
		size_t len = strcspn(list, ",");

		if (len == n && !memcmp(list, word, n))
			return true;
		if (!list[len])
			return false;
		list += len + 1;
	}
}

/* "4:cpu,memory:/a/b", or "0::/a/b" for version 2. */
static void read_own_line(char *line, const char *controller, struct own_group *ret)
{
	char *list = strchr(line, ':'), *path;

	if (!list || !(path = strchr(++list, ':')))
		return;
	*path++ = '\0';
	path[strcspn(path, "\n")] = '\0';
	if (path[0] != '/' || strlen(path) >= FS_PATH_MAX)
		return;
	if (!list[0])
		strcpy(ret->v2, path);
	else if (listed(list, controller))
		strcpy(ret->v1, path);
}

static bool read_own(const struct fs *fs, const char *controller, struct own_group *ret)
{
	FILE *f = fs_stream(fs, "proc/self/cgroup");
	char *line = NULL;
	size_t room = 0;

	ret->v1[0] = ret->v2[0] = '\0';
	while (f && getline(&line, &room, f) > 0)
		read_own_line(line, controller, ret);
	free(line);
	if (f)
		fclose(f);
	return ret->v1[0] || ret->v2[0];
}

/* mountinfo writes a space as \040. In place. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *at = text; *at;) {
		bool octal = at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' &&
			     at[2] <= '7' && at[3] >= '0' && at[3] <= '7';

		if (!octal) {
			*to++ = *at++;
			continue;
		}
		*to++ = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
		at += 4;
	}
	*to = '\0';
}

/* "31 23 0:28 ROOT POINT rw,relatime shared:9 - TYPE SOURCE OPTIONS": one of @controller's? */
static bool parse_mount(char *line, const char *controller, struct mount *ret)
{
	char *tail = strstr(line, " - "), *type, *options;

	if (!tail)
		return false;
	*tail = '\0';
	tail += 3;
	tail[strcspn(tail, "\n")] = '\0';
	type = strsep(&tail, " ");
	strsep(&tail, " ");
	options = tail ? tail : type + strlen(type);
	ret->v2 = !strcmp(type, "cgroup2");
	if (!ret->v2 && (strcmp(type, "cgroup") != 0 || !listed(options, controller)))
		return false;
	for (int i = 0; i < 3; i++)
		strsep(&line, " ");
	ret->root = strsep(&line, " ");
	ret->point = strsep(&line, " ");
	if (!ret->root || !ret->point || ret->point[0] != '/' || !ret->point[1])
		return false;
	unescape(ret->root);
	unescape(ret->point);
	return true;
}

/* What of @path is below @root, "" for the same; NULL where it is elsewhere. */
static const char *below(const char *root, const char *path)
{
	size_t n = strlen(root);

	if (n == 1)
		n = 0; /* "/" */
	if (strncmp(path, root, n) != 0 || (path[n] && path[n] != '/'))
		return NULL;
	path += n;
	if (strstr(path, "/.."))
		return NULL; /* outside our namespace: not to be found by name */
	return path[1] ? path : "";
}

/* From the folder of @rel below the mount point up to the mount point itself. */
static void walk_mount(struct walk *w, const struct mount *m, const char *rel)
{
	char dir[2 * FS_PATH_MAX];
	size_t top = strlen(m->point) - 1;
	struct cgroup_level level = { .dir = dir, .v2 = m->v2 };

	if (top + strlen(rel) >= sizeof(dir))
		return;
	strcpy(dir, m->point + 1);
	strcpy(dir + top, rel);
	for (;;) {
		char *slash;

		w->shown[m->v2]++;
		if (!w->each(w->arg, w->fs, &level) || !dir[top])
			return;
		slash = strrchr(dir + top, '/');
		if (!slash)
			return;
		*slash = '\0';
	}
}

static void try_mount(struct walk *w, const struct mount *m)
{
	const char *path = m->v2 ? w->own.v2 : w->own.v1, *rel;

	if (!path[0])
		return;
	rel = below(m->root, path);
	if (rel && !w->fallback[0] && !w->fallback[1])
		walk_mount(w, m, rel);
	/*
	 * A container without a namespace of its own may see only its part of the tree mounted,
	 * under a path that its own name does not begin with: the mount point is then the group, or
	 * one above it. A path that begins with /.. is a process moved out of its namespace, of
	 * which nothing is known.
	 */
	if (w->fallback[m->v2] && strncmp(path, "/..", 3) != 0)
		walk_mount(w, m, "");
}

static void walk_mounts(struct walk *w)
{
	FILE *f = fs_stream(w->fs, "proc/self/mountinfo");
	char *line = NULL;
	size_t room = 0;
	struct mount m;

	while (f && getline(&line, &room, f) > 0)
		if (parse_mount(line, w->controller, &m))
			try_mount(w, &m);
	free(line);
	if (f)
		fclose(f);
}

unsigned cgroup_walk(const struct fs *fs, const char *controller, cgroup_level_fn each, void *arg)
{
	struct walk *w = calloc(1, sizeof(*w));
	unsigned shown;

	if (!w)
		return 0;
	w->fs = fs;
	w->controller = controller;
	w->each = each;
	w->arg = arg;
	if (read_own(fs, controller, &w->own)) {
		walk_mounts(w);
		w->fallback[0] = w->own.v1[0] && !w->shown[0];
		w->fallback[1] = w->own.v2[0] && !w->shown[1];
		if (w->fallback[0] || w->fallback[1])
			walk_mounts(w);
	}
	shown = w->shown[0] + w->shown[1];
	free(w);
	return shown;
}
