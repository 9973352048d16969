/* SPDX-License-Identifier: MIT */
/*
 * tests/bench/make_model.c: writes a GGUF file shaped like a published model, with random weights.
 *
 *	make_model --shape qwen3-30b-a3b --layers 8 --vocab 32768 --out FILE [--seed N] [--routing TRACE] [--floats bf16]
 *	make_model --list
 *
 * For measuring speed where the real files cannot be had: architecture, sizes, the Q4_K_M mixture
 * of types (docs/models.md section 5), metadata and tokenizer are those of a real file, so that
 * any program that reads such files runs it; only the text it writes is noise. The weights are
 * scaled so that activations neither grow nor vanish, and the routers' rows differ in length, so
 * that some experts are chosen more often than others, as in trained models.
 * --routing: as many experts as the trace has, chosen as it says: greedy decoding goes through its tokens
 * (tests/bench/routing.h). --floats bf16: what is F32 (routers, norms) has values of BF16 alone, as where a checkpoint
 * in BF16 was converted; f32: any, which every copy of the weights has to keep. The same arguments give the same bytes. Streams; several GB take seconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "tests/bench/model_weights.h"
#include "tests/bench/routing.h"
#include "tests/bench/shapes.h"

#define MAX_TENSORS 4096
#define N_SPECIAL   3

/* ---- the tensor list ---- */

static struct tensor *add(struct writer *w, enum type type, enum fill fill, uint64_t n0,
			  uint64_t n1, uint64_t n2, const char *name)
{
	struct tensor *t = &w->tensors[w->n_tensors++], *last = t - 1;
	uint64_t n = n0 * (n1 ? n1 : 1) * (n2 ? n2 : 1);

	if (w->n_tensors > MAX_TENSORS)
		die("too many tensors", NULL);
	if (type != F32 && n0 % 256)
		die("rows are not whole blocks of 256", name);
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->ne[0] = n0;
	t->ne[1] = n1;
	t->ne[2] = n2;
	t->n_dims = n2 ? 3 : n1 ? 2 : 1;
	t->type = type;
	t->fill = fill;
	t->gain = 1;
	t->bytes = type == F32 ? n * 4 : n / 256 * (type == Q4_K ? 144 : 210);
	t->offset = w->n_tensors > 1 ? align_up(last->offset + last->bytes, ALIGNMENT) : 0;
	return t;
}

static struct tensor *add_in_layer(struct writer *w, uint32_t layer, enum type type, enum fill fill,
				   uint64_t n0, uint64_t n1, uint64_t n2, const char *name)
{
	char full[64];

	snprintf(full, sizeof(full), "blk.%u.%s", layer, name);
	return add(w, type, fill, n0, n1, n2, full);
}

static bool more_bits(uint32_t i, uint32_t n)
{
	return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static void add_attention(struct writer *w, const struct shape *s, uint32_t l, uint32_t n_layers)
{
	enum type v = more_bits(l, n_layers) ? Q6_K : Q4_K;
	uint64_t q_rows = (uint64_t)s->heads * s->head_dim,
		 kv = (uint64_t)s->kv_heads * s->head_dim;
	bool gated = s->arch != QWEN3MOE;

	add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, gated ? 2 * q_rows : q_rows, 0,
		     "attn_q.weight");
	add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, kv, 0, "attn_k.weight");
	add_in_layer(w, l, v, FILL_MATRIX, s->d, kv, 0, "attn_v.weight");
	add_in_layer(w, l, Q4_K, FILL_MATRIX, q_rows, s->d, 0, "attn_output.weight")->gain = 0.5f;
	add_in_layer(w, l, F32, FILL_NORM, s->head_dim, 0, 0, "attn_q_norm.weight");
	add_in_layer(w, l, F32, FILL_NORM, s->head_dim, 0, 0, "attn_k_norm.weight");
}

static void add_deltanet(struct writer *w, const struct shape *s, uint32_t l, uint32_t n_layers)
{
	enum type qkv = more_bits(l, n_layers) ? Q6_K : Q4_K;
	uint64_t v_dim = s->v_heads * 128, channels = 2 * s->k_heads * 128 + v_dim;

	add_in_layer(w, l, qkv, FILL_MATRIX, s->d, channels, 0, "attn_qkv.weight");
	add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, v_dim, 0, "attn_gate.weight");
	add_in_layer(w, l, F32, FILL_CONV, 4, channels, 0, "ssm_conv1d.weight");
	add_in_layer(w, l, F32, FILL_DT, s->v_heads, 0, 0, "ssm_dt.bias");
	add_in_layer(w, l, F32, FILL_A, s->v_heads, 0, 0, "ssm_a");
	if (s->arch == QWEN3NEXT) {
		add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, 2 * s->v_heads, 0, "ssm_ba.weight");
	} else {
		add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, s->v_heads, 0, "ssm_beta.weight");
		add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, s->v_heads, 0, "ssm_alpha.weight");
	}
	add_in_layer(w, l, F32, FILL_NORM, 128, 0, 0, "ssm_norm.weight");
	add_in_layer(w, l, Q4_K, FILL_MATRIX, v_dim, s->d, 0, "ssm_out.weight")->gain = 0.5f;
}

static void add_ffn(struct writer *w, const struct shape *s, uint32_t l, uint32_t n_layers)
{
	enum type down = more_bits(l, n_layers) ? Q6_K : Q4_K;

	if (!s->experts) {
		add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, s->ff, 0, "ffn_gate.weight");
		add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, s->ff, 0, "ffn_up.weight");
		add_in_layer(w, l, down, FILL_MATRIX, s->ff, s->d, 0, "ffn_down.weight");
		return;
	}
	add_in_layer(w, l, F32, FILL_ROUTER, s->d, s->experts, 0, "ffn_gate_inp.weight")->gain =
		1.5f;
	add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, s->ff, s->experts, "ffn_gate_exps.weight");
	add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, s->ff, s->experts, "ffn_up_exps.weight");
	add_in_layer(w, l, down, FILL_MATRIX, s->ff, s->d, s->experts, "ffn_down_exps.weight");
	if (!s->ff_shared)
		return;
	add_in_layer(w, l, F32, FILL_ROUTER, s->d, 0, 0, "ffn_gate_inp_shexp.weight");
	add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, s->ff_shared, 0, "ffn_gate_shexp.weight");
	add_in_layer(w, l, Q4_K, FILL_MATRIX, s->d, s->ff_shared, 0, "ffn_up_shexp.weight");
	add_in_layer(w, l, down, FILL_MATRIX, s->ff_shared, s->d, 0, "ffn_down_shexp.weight");
}

/* The tensors of a model whose routers follow a trace: codes, norms of 1, and blocks that add little. */
static void follow_trace(struct writer *w, bool tied)
{
	for (uint32_t i = 0; i < w->n_tensors; i++) {
		struct tensor *t = &w->tensors[i];
		const bool embedding = !strcmp(t->name, "token_embd.weight");

		if (embedding || !strcmp(t->name, "output.weight"))
			t->fill = embedding ? FILL_CODES : FILL_NEXT;
		else if (strstr(t->name, "attn_output.") || strstr(t->name, "ssm_out.") ||
			 strstr(t->name, "ffn_down"))
			t->gain = 0.02f;
		else if (t->fill == FILL_NORM && !strstr(t->name, "ssm_"))
			t->fill = FILL_ONE;
	}
	if (tied)
		die("--routing wants a shape with an output matrix", NULL);
}

static void add_tensors(struct writer *w, const struct shape *s, uint32_t layers, uint32_t vocab)
{
	add(w, s->tied ? Q6_K : Q4_K, FILL_MATRIX, s->d, vocab, 0, "token_embd.weight")->gain =
		sqrtf((float)s->d); /* a row, not a sum over one: unit variance in the stream */
	add(w, F32, FILL_NORM, s->d, 0, 0, "output_norm.weight");
	if (!s->tied)
		add(w, Q6_K, FILL_MATRIX, s->d, vocab, 0, "output.weight")->gain = 2;
	for (uint32_t l = 0; l < layers; l++) {
		add_in_layer(w, l, F32, FILL_NORM, s->d, 0, 0, "attn_norm.weight");
		if (s->arch == QWEN3MOE || (l + 1) % 4 == 0)
			add_attention(w, s, l, layers);
		else
			add_deltanet(w, s, l, layers);
		add_in_layer(w, l, F32, FILL_NORM, s->d, 0, 0,
			     s->arch == QWEN3MOE ? "ffn_norm.weight"
						 : "post_attention_norm.weight");
		add_ffn(w, s, l, layers);
	}
}

/* ---- metadata; each key is counted, because the count stands before them ---- */

struct meta {
	struct writer *w;
	const char *arch;
	uint64_t n;
	bool dry; /* only counts */
};

enum value { V_U32 = 4, V_I32 = 5, V_F32 = 6, V_BOOL = 7, V_STRING = 8, V_ARRAY = 9 };

/* "general.x" and "tokenizer.x" stay, "x" becomes "<arch>.x". False while counting. */
static bool key(struct meta *m, const char *name, enum value type)
{
	char full[96];

	m->n++;
	if (m->dry)
		return false;
	if (strncmp(name, "general.", 8) == 0 || strncmp(name, "tokenizer.", 10) == 0)
		snprintf(full, sizeof(full), "%s", name);
	else
		snprintf(full, sizeof(full), "%s.%s", m->arch, name);
	put_string(m->w, full);
	put_u32(m->w, type);
	return true;
}

static void meta_u32(struct meta *m, const char *name, uint32_t v)
{
	if (key(m, name, V_U32))
		put_u32(m->w, v);
}

static void meta_f32(struct meta *m, const char *name, float v)
{
	if (key(m, name, V_F32))
		put(m->w, &v, sizeof(v));
}

static void meta_string(struct meta *m, const char *name, const char *v)
{
	if (key(m, name, V_STRING))
		put_string(m->w, v);
}

static bool meta_array(struct meta *m, const char *name, enum value type, uint64_t n)
{
	if (!key(m, name, V_ARRAY))
		return false;
	put_u32(m->w, type);
	put_u64(m->w, n);
	return true;
}

/* ---- tokenizer: 256 bytes, then tokens made by merges (shapes.h), then the special ones ---- */

static void write_tokenizer(struct meta *m, const struct shape *s, uint32_t vocab)
{
	static const char *const special[N_SPECIAL] = { "<|endoftext|>", "<|im_start|>",
							"<|im_end|>" };
	uint32_t n_merges = vocab - 256 - N_SPECIAL;
	char left[8], right[4], text[16];

	meta_string(m, "tokenizer.ggml.model", "gpt2");
	meta_string(m, "tokenizer.ggml.pre",
		    s->arch == QWEN35 || s->arch == QWEN35MOE ? "qwen35" : "qwen2");
	if (meta_array(m, "tokenizer.ggml.tokens", V_STRING, vocab)) {
		for (unsigned b = 0; b < 256; b++)
			put_string(m->w, byte_letter(b, text));
		for (uint32_t i = 0; i < n_merges; i++) {
			merge_parts(i, left, right);
			snprintf(text, sizeof(text), "%s%s", left, right);
			put_string(m->w, text);
		}
		for (unsigned i = 0; i < N_SPECIAL; i++)
			put_string(m->w, special[i]);
	}
	if (meta_array(m, "tokenizer.ggml.token_type", V_I32, vocab))
		for (uint32_t i = 0; i < vocab; i++)
			put_u32(m->w, i < vocab - N_SPECIAL ? 1 : 3);
	if (meta_array(m, "tokenizer.ggml.merges", V_STRING, n_merges)) {
		for (uint32_t i = 0; i < n_merges; i++) {
			merge_parts(i, left, right);
			snprintf(text, sizeof(text), "%s %s", left, right);
			put_string(m->w, text);
		}
	}
	meta_u32(m, "tokenizer.ggml.eos_token_id", vocab - 1);
	meta_u32(m, "tokenizer.ggml.padding_token_id", vocab - N_SPECIAL);
	if (key(m, "tokenizer.ggml.add_bos_token", V_BOOL))
		put(m->w, "\0", 1);
	meta_string(m, "tokenizer.chat_template",
		    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
		    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
}

static void write_metadata(struct meta *m, const struct shape *s, uint32_t layers, uint32_t vocab)
{
	static const uint32_t sections[4] = { 11, 11, 10, 0 };

	meta_string(m, "general.architecture", m->arch);
	meta_string(m, "general.name", s->name);
	meta_u32(m, "general.file_type", 15);
	meta_u32(m, "general.quantization_version", 2);
	meta_u32(m, "block_count", layers);
	meta_u32(m, "context_length", s->context);
	meta_u32(m, "embedding_length", s->d);
	meta_u32(m, "attention.head_count", s->heads);
	meta_u32(m, "attention.head_count_kv", s->kv_heads);
	meta_u32(m, "attention.key_length", s->head_dim);
	meta_u32(m, "attention.value_length", s->head_dim);
	meta_f32(m, "attention.layer_norm_rms_epsilon", 1e-6f);
	meta_f32(m, "rope.freq_base", s->rope_base);
	meta_u32(m, "feed_forward_length", s->experts ? s->ff * s->used : s->ff);
	if (s->experts) {
		meta_u32(m, "expert_count", s->experts);
		meta_u32(m, "expert_used_count", s->used);
		meta_u32(m, "expert_feed_forward_length", s->ff);
	}
	if (s->ff_shared)
		meta_u32(m, "expert_shared_feed_forward_length", s->ff_shared);
	if (s->arch != QWEN3MOE) {
		meta_u32(m, "rope.dimension_count", s->n_rot);
		meta_u32(m, "ssm.conv_kernel", 4);
		meta_u32(m, "ssm.state_size", 128);
		meta_u32(m, "ssm.group_count", s->k_heads);
		meta_u32(m, "ssm.time_step_rank", s->v_heads);
		meta_u32(m, "ssm.inner_size", s->v_heads * 128);
		meta_u32(m, "full_attention_interval", 4);
	}
	if ((s->arch == QWEN35 || s->arch == QWEN35MOE) &&
	    meta_array(m, "rope.dimension_sections", V_I32, 4))
		put(m->w, sections, sizeof(sections));
	write_tokenizer(m, s, vocab);
}

static void write_model(struct writer *w, const struct shape *s, uint32_t layers, uint32_t vocab,
			uint64_t seed)
{
	struct meta count = { .w = w, .arch = arch_names[s->arch], .dry = true };
	struct meta meta = { .w = w, .arch = arch_names[s->arch] };

	write_metadata(&count, s, layers, vocab);
	add_tensors(w, s, layers, vocab);
	if (w->routing)
		follow_trace(w, s->tied);
	put(w, "GGUF", 4);
	put_u32(w, 3);
	put_u64(w, w->n_tensors);
	put_u64(w, count.n);
	write_metadata(&meta, s, layers, vocab);
	for (uint32_t i = 0; i < w->n_tensors; i++) {
		const struct tensor *t = &w->tensors[i];

		put_string(w, t->name);
		put_u32(w, t->n_dims);
		for (uint32_t k = 0; k < t->n_dims; k++)
			put_u64(w, t->ne[k]);
		put_u32(w, t->type);
		put_u64(w, t->offset);
	}
	pad(w);
	for (uint32_t i = 0; i < w->n_tensors; i++) {
		const struct tensor *t = &w->tensors[i];

		w->random = (seed * 0x9e3779b97f4a7c15u ^ (i + 1) * 0xbf58476d1ce4e5b9u) | 1;
		if (t->fill == FILL_CODES || t->fill == FILL_NEXT)
			write_codes(w, t);
		else if (w->routing && t->fill == FILL_ROUTER && t->ne[1])
			write_routers(w, t);
		else if (t->type == F32)
			write_floats(w, t);
		else
			write_matrix(w, t);
		pad(w);
	}
	flush(w);
}

static uint64_t number(const char *option, const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned long long n;

	errno = 0;
	n = text ? strtoull(text, &end, 10) : 0;
	if (!text || errno || *end || end == text || n < least || n > most)
		die("not a number that this option takes", option);
	return n;
}

static int list(void)
{
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
		printf("%-20s %s, %u layers, %u experts, vocabulary %u\n", shapes[i].name,
		       arch_names[shapes[i].arch], shapes[i].layers, shapes[i].experts,
		       shapes[i].vocab);
	return 0;
}

/* @s with the experts of the trace @path, into @ret. */
static const struct shape *shape_of_trace(const struct shape *s, const char *path,
					  struct routing *routing, struct shape *ret)
{
	const char *wrong = routing_read(path, routing);

	if (wrong)
		die(path, wrong);
	if (!s->experts || s->d & (s->d - 1) || s->d <= routing->tokens)
		die("--routing wants experts and an embedding of a power of two", s->name);
	*ret = *s;
	ret->experts = routing->experts;
	ret->used = routing->used;
	return ret;
}

int main(int argc, char **argv)
{
	struct writer w = { 0 };
	const struct shape *s = NULL;
	struct shape shaped;
	struct routing routing;
	const char *trace = NULL;
	uint64_t layers = 0, vocab = 32768, seed = 1;

	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--list") == 0)
			return list();
		if (strcmp(argv[i], "--shape") == 0) {
			for (size_t k = 0; k < ARRAY_LEN(shapes) && value; k++)
				if (strcmp(shapes[k].name, value) == 0)
					s = &shapes[k];
			if (!s)
				die("no such shape (see --list)", value);
		} else if (strcmp(argv[i], "--layers") == 0) {
			layers = number(argv[i], value, 1, 200);
		} else if (strcmp(argv[i], "--vocab") == 0) {
			vocab = number(argv[i], value, 1024, 400000);
		} else if (strcmp(argv[i], "--seed") == 0) {
			seed = number(argv[i], value, 0, UINT64_MAX);
		} else if (strcmp(argv[i], "--routing") == 0) {
			trace = value ? value : "";
		} else if (strcmp(argv[i], "--floats") == 0) {
			w.bf16 = value && strcmp(value, "bf16") == 0;
			if (!w.bf16 && (!value || strcmp(value, "f32") != 0))
				die("--floats takes f32 and bf16", value);
		} else if (strcmp(argv[i], "--out") == 0) {
			w.path = value;
		} else {
			die("unknown option", argv[i]);
		}
	}
	if (!s || !w.path)
		die("usage: make_model --shape NAME --out FILE [--layers N] [--vocab N] [--seed N] "
		    "[--routing TRACE] [--floats f32|bf16]",
		    NULL);
	if (trace) {
		s = shape_of_trace(s, trace, &routing, &shaped);
		w.routing = &routing;
	}
	w.layers = layers ? (uint32_t)layers : s->layers;
	w.buffer = malloc(BUFFER);
	w.tensors = calloc(MAX_TENSORS, sizeof(*w.tensors));
	w.fd = open(w.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (!w.buffer || !w.tensors)
		die("out of memory", NULL);
	if (w.fd < 0)
		die(w.path, strerror(errno));
	write_model(&w, s, w.layers, (uint32_t)vocab, seed);
	if (close(w.fd))
		die(w.path, strerror(errno));
	printf("%s: %u tensors, %llu bytes\n", w.path, w.n_tensors, (unsigned long long)w.written);
	free(w.buffer);
	free(w.tensors);
	return 0;
}
