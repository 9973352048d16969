/* SPDX-License-Identifier: MIT */
/*
 * daemon/model/tokenizer_impl.h: what the files of the tokenizer share; nobody else includes it.
 *
 * The text goes through three steps, one file each: special tokens are cut out
 * (tokenizer_special.c), what lies between is split into pre-tokens (pretok.c), and each pre-token
 * is merged from its bytes (tokenizer_bpe.c). tokenizer_load.c builds the tables from the file and
 * tokenizer_keys.c reads what it says about single tokens, tokenizer.c is the public face. Tables
 * are constant once built; every call brings its own workspace, so any number of threads may encode
 * at once.
 */
#ifndef SLUICE_MODEL_TOKENIZER_IMPL_H
#define SLUICE_MODEL_TOKENIZER_IMPL_H

#include "model/gguf.h"
#include "model/pretok.h"
#include "model/tokenizer.h"

#define TOKEN_MAX_BYTES	  65536u	/* the text of one token */
#define TOKENS_MAX	  (1u << 22)	/* tokens, and merges */
#define SPECIAL_MAX_BYTES 512u		/* the text of a control or user-defined token */
#define TEXT_MAX_BYTES	  0x7fffffffull /* of one text to encode: positions are 32 bits */
#define NO_ID		  UINT32_MAX
#define NEWLINES_MAX	  64u  /* of one token that is nothing else */
#define MAPPED_LIMIT	  324u /* code points below it may stand for a byte in a token's text */
#define NOTE_BYTES	  400u /* of one note to the operator */

enum token_type {
	TOKEN_UNDEFINED,
	TOKEN_NORMAL,
	TOKEN_UNKNOWN,
	TOKEN_CONTROL,
	TOKEN_USER_DEFINED,
	TOKEN_UNUSED,
	TOKEN_BYTE,
	TOKEN_TYPE_NR,
};

/* A growing list of ids. Zeroed = empty; the caller frees data. */
struct id_list {
	uint32_t *data;
	size_t n, cap;
};

/* Makes room for @more ids. 0 or -ENOMEM. */
int id_list_reserve(struct id_list *ids, size_t more);

/* ---- special tokens ---- */

struct special {
	const char *text; /* in the tokenizer's bytes */
	uint32_t len, id;
	bool control; /* or unknown: found only where control tokens are asked for */
};

struct specials {
	struct special *v; /* sorted by text; equal texts by id, at most one of each kind */
	uint32_t n;
	uint32_t first[257]; /* v[first[b]..first[b + 1]) begin with byte b */
	bool starts[2][256]; /* [control asked for]: some token begins with this byte */
};

struct special_hit {
	uint32_t pos, len, id;
};

/* Sorts and indexes @s->v[0..n). */
void specials_index(struct specials *s);

/*
 * The tokens that the text holds, longest first (a longer one takes its bytes from any shorter one
 * that it overlaps, among equals the leftmost), in order of position. 0 and a malloc'd array
 * (NULL where there is none), or -ENOMEM. Control tokens lie within one of @trusted.
 */
int specials_scan(const struct specials *s, const char *text, size_t len,
		  const struct text_span *trusted, size_t n_trusted, struct special_hit **ret,
		  size_t *ret_n);

/* The longest token at the start of text, of at most @len bytes, a control token of at most
 * @control; NULL: none. */
const struct special *specials_match(const struct specials *s, const char *text, size_t len,
				     size_t control);

/* ---- merges ---- */

/*
 * Symbols are what merges join: ids below n_vocab are tokens, those above are texts that merges
 * name but no plain token has; they can be joined further, and what is left of them is written
 * as bytes.
 */
struct bpe_pair {
	uint32_t left, right; /* left == NO_ID: free */
	uint32_t rank;
};

struct bpe_char {
	uint32_t cp, symbol; /* symbol == NO_ID: free */
};

/* Characters to symbols, for vocabularies that begin with characters; slots NULL: with bytes. */
struct bpe_chars {
	uint32_t mask;
	struct bpe_char *slots; /* mask + 1, open addressing */
};

struct bpe {
	uint32_t n_vocab;
	struct bpe_chars chars;
	uint32_t
		newlines[NEWLINES_MAX + 1]; /* with characters: the token of so many LF, or NO_ID */
	uint32_t byte_symbol[256];
	uint32_t byte_token
		[256]; /* the token of that byte alone, else the unknown token, or NO_ID */
	uint64_t seed;
	uint32_t mask;
	struct bpe_pair *pairs; /* mask + 1, open addressing */
	uint32_t *merged;	/* by rank: the symbol that the merge makes */
};

struct bpe_node {
	uint32_t prev, next; /* byte positions; NO_ID at the ends */
	uint32_t symbol;
	uint32_t rank; /* of the merge with next; NO_ID: none */
};

struct bpe_cached; /* tokenizer_bpe.c */

/* One call's memory; zeroed = empty. */
struct bpe_work {
	struct bpe_node *nodes;
	size_t cap_nodes;
	uint64_t *heap; /* rank << 32 | position, least first */
	size_t n_heap, cap_heap;
	struct bpe_cached *cache; /* NULL: none */
};

/* Merges at most @n_merges pairs; bpe_add_pair() fills it. 0 or -ENOMEM. */
int bpe_init(struct bpe *b, uint32_t n_vocab, uint32_t n_merges, uint64_t seed);
void bpe_fini(struct bpe *b);
/* The first of two merges of the same pair wins. */
void bpe_add_pair(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank, uint32_t merged);

/* @text_bytes: of all that this call will encode, to decide whether a cache is worth its memory. */
void bpe_work_init(struct bpe_work *w, size_t text_bytes);
void bpe_work_fini(struct bpe_work *w);
/*
 * Appends the ids of one pre-token. 0, -ENOMEM, or -EILSEQ where the vocabulary has no token for a
 * byte. O(n log n) in its length.
 */
int bpe_encode(const struct bpe *b, struct bpe_work *w, const uint8_t *text, size_t len,
	       struct id_list *ids);

/* ---- vocabularies of characters ---- */

/* Of texts[0..n), by symbol, takes those that are one character. 0 or -ENOMEM. free() slots. */
int bpe_chars_init(struct bpe_chars *c, const struct gguf_str *texts, uint32_t n);
/*
 * The bytes of the character at @text (@len >= 1; 1 where it is none) and its symbol, NO_ID where
 * there is none of it. A space is the character that stands for it.
 */
unsigned bpe_chars_next(const struct bpe_chars *c, const uint8_t *text, size_t len,
			uint32_t *ret_symbol);
/* Writes what the text of a plain token stands for, at most @len bytes; returns their number. */
uint32_t chars_unescape(const char *text, uint32_t len, char *out);
/* The byte that a token called <0x00> to <0xFF> stands for, or -1. */
int chars_byte(struct gguf_str text);

/* ---- the whole ---- */

struct token {
	uint32_t offset, len; /* in bytes: what it decodes to */
	uint8_t type;
};

struct tokenizer {
	uint32_t n_vocab;
	struct token *tokens;
	char *bytes; /* the decoded texts of all tokens */
	uint32_t longest;
	struct specials specials;
	bool by_characters; /* gemma4's tokenizer model, else gpt2's */
	struct bpe bpe;
	struct pretok *pretok;
	uint32_t eog[16];
	unsigned n_eog;
	uint32_t bos, eos; /* belong around every prompt; NO_ID: not */
	char *notes[12];   /* for the operator */
	unsigned n_notes;
};

/* ---- keys of single tokens ---- */

/* Appends a note (printf). 0 or -ENOMEM. */
int tokenizer_add_note(struct tokenizer *t, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The id that @key names; NO_ID where there is no such key, or where it names none, which is a
 * note. 0 or -ENOMEM.
 */
int tokenizer_read_id(const struct gguf *g, struct tokenizer *t, const char *key, uint32_t *ret);

/*
 * Reads the keys of special tokens once the types are known, and makes control tokens of those
 * that must be, before any text is looked at. 0 or -errno and a sentence.
 */
int tokenizer_read_keys(const struct gguf *g, struct tokenizer *t, struct err *err);

/* Once special tokens can be found: those that end an answer by their texts. 0 or -ENOMEM. */
int tokenizer_find_ends(const struct gguf *g, struct tokenizer *t);

/* Puts around a prompt what the file asks for, where it is not there. 0 or -ENOMEM. */
int tokenizer_frame(const struct tokenizer *t, struct id_list *ids);

/*
 * In a vocabulary of characters finds the tokens of bytes (@unknown, or NO_ID, where there is none)
 * and of line breaks alone, once all texts are read.
 */
void chars_index(struct tokenizer *t, uint32_t unknown);

/* A keyed hash: without the key nobody can make texts or pairs that collide. */
static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#endif
