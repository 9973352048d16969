/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/model.c: from a GGUF file to a struct model: see model.h.
 *
 * Picks the family by general.architecture, has the other files of this room read keys and
 * tensors, then accounts for every tensor of the main layers: one that nobody asked for (a bias, a
 * scale, a leftover) would change the arithmetic, so it is refused. Tensors of MTP blocks, of
 * vision and of other parts are left alone. Reads no weight. One thread while opening; constant
 * afterwards.
 */
#include "model/model.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "model/gguf_impl.h"
#include "model/arch/arch.h"
#include "model/model_impl.h"

int build_bad_tensor(const struct build *b, const struct gguf_tensor *t, const char *fmt, ...)
{
	char reason[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return err_set(b->err, -EINVAL, "%s: offset %llu: tensor %s: %s", gguf_label(b->g, t->file),
		       (unsigned long long)gguf_tensor_at(b->g, t), t->name, reason);
}

#define BLOCK_NONE INT64_MAX /* "blk." without a number that can be one: refused as a block */

/* The N of "blk.N.rest", BLOCK_NONE where N is no such number, -1 for a tensor outside blocks. */
static int64_t block_of(const char *name)
{
	char *end;
	unsigned long n;

	if (strncmp(name, "blk.", 4))
		return -1;
	if (name[4] < '0' || name[4] > '9')
		return BLOCK_NONE;
	n = strtoul(name + 4, &end, 10);
	return *end == '.' && n < UINT32_MAX ? (int64_t)n : BLOCK_NONE;
}

static bool equals(struct gguf_str s, const char *text)
{
	return s.len == strlen(text) && !memcmp(s.data, text, s.len);
}

/* A file with the prediction block alone: it has nextn tensors but no layer 0. */
static int refuse_mtp_file(const struct build *b)
{
	if (gguf_find(b->g, "blk.0.attn_norm.weight"))
		return 0;
	for (uint64_t i = 0; i < gguf_n_tensors(b->g); i++)
		if (strstr(gguf_tensor(b->g, i)->name, "nextn."))
			return err_set(b->err, -EINVAL,
				       "%s: this file holds only the multi-token-prediction block "
				       "of a model (tensor %s is here, blk.0 is not); open the "
				       "main model file instead",
				       gguf_label(b->g, 0), gguf_tensor(b->g, i)->name);
	return 0;
}

/* Files that lie beside models and end in .gguf too, by general.type or, from before it, the architecture. */
static int refuse_companion(struct build *b, struct gguf_str kind, const char *key)
{
	static const struct {
		const char *kind, *what;
	} known[] = {
		{ "adapter", "an adapter (LoRA), not a model: Sluice has no adapters; merge it "
			     "into its model and open that" },
		{ "mmproj", "a projector of images or sound (mmproj), not a model: Sluice reads "
			    "text alone; open the model's own file" },
		{ "clip", "a projector of images or sound (mmproj), not a model: Sluice reads "
			  "text alone; open the model's own file" },
		{ "imatrix", "a file of statistics for quantising (imatrix), not a model" },
		{ "controlvector", "a control vector, not a model: Sluice has none" },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (equals(kind, known[i].kind))
			return err_set(b->err, -EINVAL, "%s: key %s: this is %s",
				       gguf_label(b->g, 0), key, known[i].what);
	return 0;
}

static int find_arch(struct build *b)
{
	struct gguf_str arch = { "", 0 }, type;
	const char *file = gguf_label(b->g, 0);
	char names[256];
	int rc = gguf_str(b->g, "general.architecture", &arch, b->err);

	if (rc)
		return err_set(b->err, -EINVAL, "%s: key general.architecture: it is missing",
			       file);
	if (!gguf_str(b->g, "general.type", &type, NULL) && !equals(type, "model")) {
		rc = refuse_companion(b, type, "general.type");
		return rc ? rc
			  : err_set(b->err, -EINVAL,
				    "%s: key general.type: \"%.*s\" is not a model", file,
				    (int)(type.len < 32 ? type.len : 32), type.data);
	}
	b->arch = arch_find(arch);
	if (!b->arch && refuse_companion(b, arch, "general.architecture"))
		return -EINVAL;
	if (!b->arch)
		return err_set(b->err, -EINVAL,
			       "%s: key general.architecture: \"%.*s\" is not supported (%s are)",
			       file, (int)(arch.len < 32 ? arch.len : 32), arch.data,
			       arch_names(names, sizeof(names)));
	b->m->arch_name = b->arch->name;
	return 0;
}

/* general.name, or the file's own; what cannot be printed would break lines of logs: '?'. */
static int set_name(struct build *b)
{
	const char *path = gguf_file(b->g, 0)->path, *slash = strrchr(path, '/');
	struct gguf_str s = { "", 0 };
	char name[256];

	if (gguf_bytes(b->g, "general.name", &s, NULL) || s.len == 0) {
		s.data = slash ? slash + 1 : path;
		s.len = strlen(s.data);
	}
	gguf_printable(name, sizeof(name), s.data, s.len);
	b->m->name = strdup(name);
	return b->m->name ? 0 : err_set(b->err, -ENOMEM, "out of memory");
}

/* Rows of the embedding give the vocabulary: every id must have one. */
static int read_vocab(struct build *b)
{
	struct model *m = b->m;
	const struct gguf_tensor *t = NULL;
	enum gguf_type type;
	char key[BUILD_KEY_BYTES];
	uint64_t n = 0;
	int rc = build_need(b, GLOBAL_TENSOR, "token_embd.weight", &t);

	if (rc)
		return rc;
	if (t->ne[1] > MODEL_MAX_DIM)
		return build_bad_tensor(b, t, "%llu rows are more than %u",
					(unsigned long long)t->ne[1], MODEL_MAX_DIM);
	m->n_vocab = (uint32_t)t->ne[1];
	rc = gguf_u64(b->g, build_key(b, key, "vocab_size"), &n, b->err);
	if (rc && rc != -ENOENT)
		return rc;
	if (n > m->n_vocab)
		return build_bad_key(b, "vocab_size", "%llu ids, the embedding has %u rows",
				     (unsigned long long)n, m->n_vocab);
	rc = gguf_array(b->g, "tokenizer.ggml.tokens", &type, &n, b->err);
	if (rc && rc != -ENOENT)
		return rc;
	if (!rc && n > m->n_vocab)
		return err_set(b->err, -EINVAL,
			       "%s: key tokenizer.ggml.tokens: %llu tokens, the embedding has %u "
			       "rows",
			       gguf_label(b->g, 0), (unsigned long long)n, m->n_vocab);
	return 0;
}

/*
 * nextn_predict_layers takes blocks out of the main model, so each of them must show by its own
 * tensors that it predicts: else a main layer would be left out without a word.
 */
static int check_prediction_blocks(const struct build *b)
{
	bool predicts[MODEL_MAX_LAYERS] = { false };

	for (uint64_t i = 0; i < gguf_n_tensors(b->g); i++) {
		const char *name = gguf_tensor(b->g, i)->name;
		int64_t block = block_of(name);

		if (block >= 0 && block < b->n_blocks && strstr(name, ".nextn."))
			predicts[block] = true;
	}
	for (uint32_t i = b->m->n_layers; i < b->n_blocks; i++)
		if (!predicts[i])
			return build_bad_key(b, "nextn_predict_layers",
					     "it takes block %u for a prediction block, but no "
					     "tensor blk.%u.nextn.* is in the file: a main layer "
					     "would be left out; the key must be the number of "
					     "blocks with such tensors, or missing",
					     i, i);
	return 0;
}

/* True for tensors outside the blocks that would change the result of those we use. */
static bool is_global_extra(const char *name)
{
	static const char *const stems[] = { "output.",	    "output_norm.", "token_embd.",
					     "token_embd_", "output_",	    "rope_" };

	for (unsigned i = 0; i < ARRAY_LEN(stems); i++)
		if (!strncmp(name, stems[i], strlen(stems[i])))
			return true;
	return false;
}

static bool is_scale(const char *name)
{
	size_t len = strlen(name);

	return strstr(name, ".scale") || strstr(name, "_scale") ||
	       (len > 2 && !strcmp(name + len - 2, "_s"));
}

/* Nothing in the main layers may be left over, and no block may be beyond block_count. */
static int check_leftovers(const struct build *b)
{
	for (uint64_t i = 0; i < gguf_n_tensors(b->g); i++) {
		const struct gguf_tensor *t = gguf_tensor(b->g, i);
		int64_t block = block_of(t->name);

		if (block == BLOCK_NONE)
			return build_bad_tensor(b, t,
						"\"blk.\" is not followed by the number of a "
						"block, so no layer would use it");
		if (block >= b->n_blocks)
			return build_bad_tensor(b, t, "the file says it has %u blocks (%s)",
						b->n_blocks, "block_count");
		if (b->used[i] || block >= b->m->n_layers ||
		    (block < 0 && !is_global_extra(t->name)))
			continue;
		if (is_scale(t->name))
			return build_bad_tensor(b, t,
						"separate scales of a weight are not supported");
		return build_bad_tensor(b, t, "not a part of %s that this version computes",
					b->arch->name);
	}
	return 0;
}

static void add_weight(struct model *m, const struct weight *w)
{
	m->dense_bytes += weight_bytes(w);
	m->n_params += w->n_in * w->n_out;
}

static void add_layer(struct model *m, struct layer *l)
{
	for (unsigned role = 0; role < ROLE_NR; role++)
		add_weight(m, &l->w[role]);
	m->expert_bytes_total += l->experts.bytes * m->n_expert;
	m->routed_bytes_per_token += l->experts.bytes * m->n_expert_used;
	for (unsigned i = 0; i < EXPERT_MATRIX_NR; i++)
		m->n_params += l->experts.matrix[i].n_in * l->experts.matrix[i].n_out * m->n_expert;
}

static void sum_up(struct model *m)
{
	for (unsigned role = 0; role < ROLE_NR; role++)
		if (role != ROLE_OUTPUT || !model_is_tied(m))
			add_weight(m, &m->w[role]);
	for (uint32_t i = 0; i < m->n_layers; i++)
		add_layer(m, &m->layers[i]);
	for (uint32_t i = 0; i < gguf_n_files(m->gguf); i++)
		m->file_bytes += gguf_file(m->gguf, i)->bytes;
}

static int build(struct build *b)
{
	struct model *m = b->m;
	int rc;

	if (gguf_n_tensors(b->g) == 0)
		return err_set(b->err, -EINVAL, "%s: no tensors: a vocabulary, not a model",
			       gguf_label(b->g, 0));
	rc = refuse_mtp_file(b);
	if (!rc)
		rc = find_arch(b);
	if (!rc)
		rc = set_name(b);
	if (!rc)
		rc = build_hparams(b);
	if (!rc)
		rc = check_prediction_blocks(b);
	if (!rc)
		rc = build_schedule(b);
	if (!rc)
		rc = read_vocab(b);
	if (!rc)
		rc = build_globals(b);
	if (rc)
		return rc;
	m->layers = calloc((size_t)m->n_layers + 1, sizeof(*m->layers));
	if (!m->layers)
		return err_set(b->err, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < m->n_layers && !rc; i++)
		rc = build_layer(b, i);
	if (!rc)
		rc = build_head(b);
	if (!rc)
		rc = check_leftovers(b);
	if (!rc)
		sum_up(m);
	return rc;
}

/* The keys of a head's file, then its one layer, with the sizes of @main. */
static int build_head_file(struct build *b, const struct model *main)
{
	struct model *m = b->m;
	int rc = find_arch(b);

	if (!rc)
		rc = build_head_family(b, main);
	if (!rc)
		rc = set_name(b);
	if (!rc)
		rc = build_hparams(b);
	if (!rc)
		rc = build_head_sizes(b, main);
	if (!rc)
		rc = build_head_tokens(b, main);
	if (!rc)
		rc = build_schedule(b);
	if (rc)
		return rc;
	m->n_vocab = main->n_vocab;
	m->layers = calloc((size_t)m->n_layers + 1, sizeof(*m->layers));
	if (!m->layers)
		return err_set(b->err, -ENOMEM, "out of memory");
	rc = build_head(b);
	if (!rc && !m->head)
		rc = err_set(b->err, -EINVAL, "%s", m->head_note);
	return rc;
}

static int open_file(const char *path, const struct model *main, struct model **ret_model,
		     struct err *err);

int model_open(const char *path, struct model **ret_model, struct err *err)
{
	return open_file(path, NULL, ret_model, err);
}

int model_open_head(const char *path, const struct model *main, struct model **ret_model,
		    struct err *err)
{
	return open_file(path, main, ret_model, err);
}

/* @main NULL: a whole model, else the head of it. */
static int open_file(const char *path, const struct model *main, struct model **ret_model,
		     struct err *err)
{
	struct build b = { .err = err };
	struct err own = { 0 };
	int rc = -ENOMEM;

	if (!err)
		b.err = &own;
	b.m = calloc(1, sizeof(*b.m));
	if (!b.m)
		return err_set(err, rc, "out of memory");
	rc = gguf_open(path, &b.m->gguf, b.err);
	if (rc)
		goto out_free;
	b.g = b.m->gguf;
	b.used = calloc(gguf_n_tensors(b.g) + 1, sizeof(*b.used));
	if (!b.used)
		rc = err_set(b.err, -ENOMEM, "out of memory");
	else
		rc = main ? build_head_file(&b, main) : build(&b);
out_free:
	free(b.used);
	free(b.recurrent);
	if (rc)
		model_destroy(b.m);
	else
		*ret_model = b.m;
	return rc;
}

void model_destroy(struct model *m)
{
	if (!m)
		return;
	for (unsigned role = 0; role < ROLE_NR; role++) {
		for (uint32_t i = 0; m->layers && i < m->n_layers + m->has_head_layer; i++)
			free(m->layers[i].w[role].runs);
		free(m->w[role].runs);
		if (m->head)
			free(m->head->w[role].runs);
	}
	free(m->head);
	free(m->layers);
	free((char *)m->name);
	gguf_destroy(m->gguf);
	free(m);
}
