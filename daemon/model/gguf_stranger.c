/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/gguf_stranger.c: what a file is that does not begin as a GGUF file does.
 *
 * People give a model's name to many things: the page of an error that a download saved, the
 * pointer that git-LFS leaves, the archive or the checkpoint that the model came in. Each is told
 * by its first bytes, and the sentence says what to do with it. Looks at nothing but those bytes;
 * refuses nothing itself: the caller does. Pure functions, any thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "model/gguf_impl.h"

#define CONVERT "convert it to GGUF (convert_hf_to_gguf.py of llama.cpp does) or get the GGUF file"
#define UNPACK	"unpack it and open the GGUF file that is in it"

/* Formats with a fixed beginning. */
static const struct {
	const char *bytes;
	unsigned len;
	const char *is;
} fixed[] = {
	{ "PK\3\4", 4,
	  "a zip archive: " UNPACK ", or, if it is a PyTorch checkpoint (those are zip archives), "
	  "convert it" },
	{ "\x1f\x8b", 2, "a gzip archive: " UNPACK },
	{ "\x28\xb5\x2f\xfd", 4, "a zstd archive: " UNPACK },
	{ "\xfd"
	  "7zXZ",
	  5, "an xz archive: " UNPACK },
	{ "BZh", 3, "a bzip2 archive: " UNPACK },
	{ "7z\xbc\xaf\x27\x1c", 6, "a 7z archive: " UNPACK },
	{ "Rar!", 4, "a RAR archive: " UNPACK },
	{ "\x89HDF", 4, "an HDF5 file: " CONVERT },
	{ "\x93NUMPY", 6, "a NumPy array, not a model" },
	{ "\x7f"
	  "ELF",
	  4, "a program (ELF), not a model" },
	{ "lmgg", 4, "a model in the form that came before GGUF (ggml): get it as GGUF" },
	{ "fmgg", 4, "a model in the form that came before GGUF (ggmf): get it as GGUF" },
	{ "tjgg", 4, "a model in the form that came before GGUF (ggjt): get it as GGUF" },
	{ "algg", 4, "an adapter in the form that came before GGUF (ggla), not a model" },
};

/* Whether the text, after white space and a byte-order mark, begins with @word in any case. */
static bool begins(const struct gguf_head *h, const char *word)
{
	const char *p = (const char *)h->data;
	size_t left = h->len, n = strlen(word);

	if (left >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		p += 3, left -= 3;
	while (left && strchr(" \t\r\n", *p) && *p)
		p++, left--;
	return left >= n && !strncasecmp(p, word, n);
}

static bool is_html(const struct gguf_head *h)
{
	return begins(h, "<!doctype") || begins(h, "<html") || begins(h, "<head") ||
	       begins(h, "<body") || begins(h, "<title") || begins(h, "<!--");
}

/* Eight bytes of length, then that much JSON. */
static bool is_safetensors(const struct gguf_head *h)
{
	uint64_t len;

	if (h->len < 10 || h->data[8] != '{')
		return false;
	memcpy(&len, h->data, sizeof(len));
	return len >= 2 && len <= h->file_bytes - 8;
}

/* The pickled form of PyTorch: a protocol mark, then an opcode that such files begin with. */
static bool is_pickle(const struct gguf_head *h)
{
	return h->len > 4 && h->data[0] == 0x80 && h->data[1] >= 2 && h->data[1] <= 5;
}

static bool is_text(const struct gguf_head *h)
{
	for (size_t i = 0; i < h->len; i++)
		if ((h->data[i] < 32 && !strchr("\t\r\n\f", h->data[i])) || !h->data[i])
			return false;
	return h->len >= 8 && (h->len == GGUF_HEAD_BYTES || gguf_utf8_ok(h->data, h->len));
}

/* The size that a git-LFS pointer names, 0 where it names none. */
static unsigned long long lfs_bytes(const struct gguf_head *h)
{
	char text[GGUF_HEAD_BYTES + 1];
	const char *size;

	memcpy(text, h->data, h->len);
	text[h->len] = '\0';
	size = strstr(text, "\nsize ");
	return size ? strtoull(size + 6, NULL, 10) : 0;
}

/* The first line of a text file. */
static char *quote_line(const struct gguf_head *h, char buf[64])
{
	size_t n = 0;

	while (n < h->len && h->data[n] != '\n' && h->data[n] != '\r')
		n++;
	return gguf_quote(buf, h->data, n);
}

static void zeros_or_bytes(const struct gguf_head *h, char *buf, size_t len)
{
	bool zeros = true;

	for (size_t i = 0; i < h->len; i++)
		zeros &= !h->data[i];
	snprintf(buf, len, ": it begins with bytes %02x %02x %02x %02x%s", h->data[0], h->data[1],
		 h->data[2], h->data[3],
		 zeros && h->len > 4 ? " and more zeros, as a file does for which room was made "
				       "but whose download never began"
				     : "");
}

void gguf_describe_stranger(const struct gguf_head *h, char *buf, size_t len)
{
	char quoted[64];

	for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
		if (h->len >= fixed[i].len && !memcmp(h->data, fixed[i].bytes, fixed[i].len)) {
			snprintf(buf, len, " but %s", fixed[i].is);
			return;
		}
	if (is_html(h))
		snprintf(buf, len,
			 " but an HTML page: the download saved a page of the site (an error, a "
			 "login, a file's description) instead of the file; get the file by its "
			 "direct link");
	else if (begins(h, "version https://git-lfs") || begins(h, "version https://hawser"))
		snprintf(buf, len,
			 " but a git-LFS pointer, which stands for a file of %llu bytes: fetch the "
			 "file itself with `git lfs pull`",
			 lfs_bytes(h));
	else if (is_safetensors(h))
		snprintf(buf, len, " but a safetensors file: " CONVERT);
	else if (is_pickle(h))
		snprintf(buf, len, " but a PyTorch checkpoint (pickle): " CONVERT);
	else if (is_text(h))
		snprintf(buf, len,
			 " but text that begins \"%s\": perhaps the answer of a server "
			 "that did not give the file",
			 quote_line(h, quoted));
	else
		zeros_or_bytes(h, buf, len);
}
