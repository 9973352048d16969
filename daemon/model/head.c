/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/head.c: the prediction head (MTP) that stands in a file behind the main layers.
 *
 * The block has the tensors of an attention layer of its family, and nextn.*: two norms and the
 * product that make its input of the next token's embedding and the hidden vector before it. Where
 * something is missing or has another shape, the model goes without and the note says so: a head
 * changes no token. Of several blocks the first is taken. Called while a model is opened.
 *
 * A file of its own is refused where it cannot be the model's head: one for another width or number of
 * layers would not run, and one that was made with another tokenizer would draft ids that mean other texts.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_impl.h"

/* One token of so many may be called otherwise: who converts a file names those without use as he likes. */
#define OTHER_NAMES 64

static int nextn(struct build *b, struct model *h, enum role role, uint64_t n_in)
{
	const struct role_info *info = &role_info[role];
	uint64_t n_out = info->kind == ROLE_MATRIX ? b->m->n_embd : 1;

	return build_matrix(b, b->m->n_layers, info->name, n_in, n_out, &h->w[role]);
}

/* An optional tensor of the block in the place of the main model's @role. */
static int own(struct build *b, struct model *h, enum role role, const char *name, uint64_t n_out)
{
	if (!build_find(b, b->m->n_layers, name))
		return 0;
	return build_matrix(b, b->m->n_layers, name, b->m->n_embd, n_out, &h->w[role]);
}

static int fill_head(struct build *b, struct model *h)
{
	struct model *m = b->m;
	int rc = build_layer(b, m->n_layers);

	if (!rc)
		rc = nextn(b, h, ROLE_MTP_PROJ, 2 * (uint64_t)m->n_embd);
	if (!rc)
		rc = nextn(b, h, ROLE_MTP_EMBD_NORM, m->n_embd);
	if (!rc)
		rc = nextn(b, h, ROLE_MTP_HIDDEN_NORM, m->n_embd);
	if (!rc)
		rc = own(b, h, ROLE_OUTPUT_NORM, "nextn.shared_head_norm.weight", 1);
	if (!rc)
		rc = own(b, h, ROLE_TOKEN_EMBD, "nextn.embed_tokens.weight", m->n_vocab);
	if (!rc)
		rc = own(b, h, ROLE_OUTPUT, "nextn.shared_head_head.weight", m->n_vocab);
	return rc;
}

int build_head(struct build *b)
{
	struct model *m = b->m, *h;
	struct err *outer = b->err, why = { { 0 } };
	int rc;

	if (b->n_blocks == m->n_layers)
		return 0;
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_set(b->err, -ENOMEM, "out of memory");
	*h = *m;
	memset(h->w, 0, sizeof(h->w));
	h->layers = &m->layers[m->n_layers];
	h->n_layers = 1;
	m->has_head_layer = true;
	b->err = &why;
	rc = fill_head(b, h);
	b->err = outer;
	m->head = h; /* for model_destroy(), which a failure below leaves it to */
	h->layers = &m->layers[m->n_layers];
	if (!rc)
		return 0;
	for (unsigned role = 0; role < ROLE_NR; role++)
		free(h->w[role].runs);
	free(h);
	m->head = NULL;
	if (rc == -ENOMEM)
		return err_set(b->err, rc, "out of memory");
	snprintf(m->head_note, sizeof(m->head_note), "the prediction head is not used: %.200s",
		 why.text);
	return 0;
}

int build_head_family(const struct build *b, const struct model *main)
{
	if (!strcmp(b->m->arch_name, main->arch_name))
		return 0;
	return err_set(b->err, -EINVAL,
		       "%s: key general.architecture: \"%s\", the model's is \"%s\"",
		       gguf_label(b->g, 0), b->m->arch_name, main->arch_name);
}

int build_head_sizes(const struct build *b, const struct model *main)
{
	const struct model *m = b->m;

	if (b->n_blocks == m->n_layers)
		return build_bad_key(b, "nextn_predict_layers",
				     "it is missing or 0: no prediction head is in this file");
	if (m->n_embd != main->n_embd)
		return build_bad_key(b, "embedding_length", "%u, the model's is %u", m->n_embd,
				     main->n_embd);
	if (m->n_layers != main->n_layers)
		return build_bad_key(
			b, "block_count",
			"%u with %u that predict: a head for %u layers, the model has %u",
			b->n_blocks, b->n_blocks - m->n_layers, m->n_layers, main->n_layers);
	return 0;
}

static int bad_tokens(const struct build *b, const char *why)
{
	return err_set(b->err, -EINVAL,
		       "%s: key tokenizer.ggml.tokens: %s: the head is another model's",
		       gguf_label(b->g, 0), why);
}

int build_head_tokens(const struct build *b, const struct model *main)
{
	static const char key[] = "tokenizer.ggml.tokens";
	const struct gguf *model = main->gguf;
	uint64_t n, n_main, others = 0, first = 0;
	struct gguf_str mine, its;
	enum gguf_type type;
	char why[128];
	int rc = gguf_array(b->g, key, &type, &n, b->err);

	if (rc == -ENOENT || gguf_array(model, key, &type, &n_main, NULL))
		return 0; /* a file without one goes by the model's */
	if (rc)
		return rc;
	if (n > main->n_vocab || n < n_main - n_main / OTHER_NAMES) {
		snprintf(why, sizeof(why), "%llu, the model has %llu", (unsigned long long)n,
			 (unsigned long long)n_main);
		return bad_tokens(b, why);
	}
	for (uint64_t i = 0; i < n && i < n_main; i++) {
		if (gguf_array_str(model, key, i, &its) ||
		    (!gguf_array_str(b->g, key, i, &mine) && mine.len == its.len &&
		     !memcmp(mine.data, its.data, mine.len)))
			continue;
		first = others++ ? first : i;
	}
	if (others <= n_main / OTHER_NAMES)
		return 0;
	snprintf(why, sizeof(why), "%llu of %llu are not the model's, number %llu the first",
		 (unsigned long long)others, (unsigned long long)n, (unsigned long long)first);
	return bad_tokens(b, why);
}
