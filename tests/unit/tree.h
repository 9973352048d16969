/* SPDX-License-Identifier: MIT */
/*
 * tests/unit/tree.h: recorded machines. A file telemetry/trees/NAME.tree becomes a folder in /tmp:
 *
 *	path = content of one line
 *	path -> target of a symbolic link
 *	path:			the lines that follow and begin with "| " are the content
 *	# comment
 *
 * tree_empty() starts with nothing; tree_text() adds files. Included by tests, each of which is one
 * program. Removed again by tree_remove().
 */
#ifndef SLUICE_TESTS_TREE_H
#define SLUICE_TESTS_TREE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TREES "tests/unit/telemetry/trees"

struct tree {
	char root[64];
};

static inline void tree_parents(const char *path)
{
	char text[2048];

	snprintf(text, sizeof(text), "%s", path);
	for (char *at = text + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(text, 0755);
		*at = '/';
	}
}

/* Replaces a file, making its folders. */
static inline void tree_write(const struct tree *t, const char *path, const void *bytes, size_t n)
{
	char full[2048];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", t->root, path);
	tree_parents(full);
	f = fopen(full, "w");
	if (!f)
		fail_msg("cannot write %s", full);
	assert_int_equal(fwrite(bytes, 1, n, f), n);
	fclose(f);
}

static inline void tree_text(const struct tree *t, const char *path, const char *text)
{
	tree_write(t, path, text, strlen(text));
}

static inline void tree_link(const struct tree *t, const char *path, const char *target)
{
	char full[2048];

	snprintf(full, sizeof(full), "%s/%s", t->root, path);
	tree_parents(full);
	if (symlink(target, full))
		fail_msg("cannot link %s", full);
}

static inline void tree_delete(const struct tree *t, const char *path)
{
	char full[2048];

	snprintf(full, sizeof(full), "%s/%s", t->root, path);
	assert_int_equal(unlink(full), 0);
}

static inline struct tree tree_empty(void)
{
	struct tree t;

	snprintf(t.root, sizeof(t.root), "/tmp/sluice-tree-XXXXXX");
	assert_non_null(mkdtemp(t.root));
	return t;
}

static inline void tree_add(const struct tree *t, const char *name)
{
	char path[256], line[1024], block[1024] = "", *content = NULL, *mark;
	size_t used = 0;
	FILE *f;

	snprintf(path, sizeof(path), TREES "/%s.tree", name);
	f = fopen(path, "r");
	if (!f)
		fail_msg("no %s: run from the top of the repository", path);
	content = calloc(1, 65536);
	assert_non_null(content);
	while (fgets(line, sizeof(line), f)) {
		if (line[0] == '|') {
			used += (size_t)snprintf(content + used, 65536 - used, "%s",
						 line + 1 + (line[1] == ' '));
			tree_write(t, block, content, used);
			continue;
		}
		used = 0;
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '#' || !line[0])
			continue;
		if ((mark = strstr(line, " -> "))) {
			*mark = '\0';
			tree_link(t, line, mark + 4);
		} else if ((mark = strstr(line, " = "))) {
			*mark = '\0';
			snprintf(content, 65536, "%s\n", mark + 3);
			tree_text(t, line, content);
		} else {
			assert_int_equal(line[strlen(line) - 1], ':');
			snprintf(block, sizeof(block), "%.*s", (int)strlen(line) - 1, line);
			tree_write(t, block, "", 0);
		}
	}
	free(content);
	fclose(f);
}

static inline struct tree tree_make(const char *name)
{
	struct tree t = tree_empty();

	tree_add(&t, name);
	return t;
}

static inline int tree_remove_one(const char *path, const struct stat *st, int type,
				  struct FTW *ftw)
{
	return remove(path);
}

static inline void tree_remove(const struct tree *t)
{
	assert_int_equal(strncmp(t->root, "/tmp/sluice-tree-", 17), 0);
	nftw(t->root, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
