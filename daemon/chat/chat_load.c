/* SPDX-License-Identifier: MIT */
/* daemon/chat/chat_load.c: a chat template out of a model file. See template.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chat/caps.h"
#include "model/gguf.h"

/* The text of the token that @key names, malloc'd; NULL where there is none. */
static char *token_text(const struct gguf *g, const struct tokenizer *t, const char *key)
{
	const char *bytes;
	uint32_t id;
	size_t n;

	if (!t || gguf_u32(g, key, &id, NULL))
		return NULL;
	n = tokenizer_piece(t, id, true, &bytes);
	return n ? strndup(bytes, n) : NULL;
}

static int read_source(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *err)
{
	int rc = gguf_str(g, key, ret, err);

	if (!rc && !ret->len)
		return -ENOENT;
	return rc;
}

int chat_template_load(const struct gguf *g, const struct tokenizer *t, const char *source,
		       size_t len, struct chat_template **ret, struct err *err)
{
	struct gguf_str text = { source, len }, more;
	struct chat_template *c = NULL;
	char *bos, *eos;
	int rc = 0;

	if (!source)
		rc = read_source(g, "tokenizer.chat_template", &text, err);
	if (rc)
		return rc;
	bos = token_text(g, t, "tokenizer.ggml.bos_token_id");
	eos = token_text(g, t, "tokenizer.ggml.eos_token_id");
	rc = chat_template_make(text.data, text.len, bos, eos, &c, err);
	free(bos);
	free(eos);
	if (!rc && !source && !read_source(g, "tokenizer.chat_template.tool_use", &more, NULL))
		rc = template_compile(more.data, more.len, &c->tool_use, err);
	if (rc) {
		chat_template_destroy(c);
		return rc;
	}
	if (c->tool_use)
		chat_caps_probe(c, &c->caps);
	*ret = c;
	return 0;
}

int chat_template_read(const char *path, char **ret, size_t *ret_len, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), rc = 0;
	size_t n = 0, room = (4u << 20) + 1;
	ssize_t got = 1;
	char *text;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	text = malloc(room + 1);
	while (text && got > 0 && n < room) {
		got = read(fd, text + n, room - n);
		n += got > 0 ? (size_t)got : 0;
	}
	if (!text)
		rc = err_set(err, -ENOMEM, "%s: out of memory", path);
	else if (got < 0)
		rc = err_set(err, -errno, "%s: %s", path, strerror(errno));
	else if (n == room)
		rc = err_set(err, -EFBIG, "%s: more than 4 MiB, which is no chat template", path);
	close(fd);
	if (rc) {
		free(text);
		return rc;
	}
	text[n] = '\0';
	*ret = text;
	*ret_len = n;
	return 0;
}
