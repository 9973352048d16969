/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/free_text.c: free text up to a marker, as rules: one for each beginning of a marker that
 * the text may end with (Aho and Corasick 1975). See constraint_impl.h.
 */
#include <assert.h>
#include <string.h>

#include "grammar/constraint_impl.h"
#include "grammar/vocab.h"

static ir_node control(struct ir *ir, const char *text)
{
	static const uint8_t head = VOCAB_CONTROL;

	return IR_SEQ_OF(ir, ir_text(ir, &head, 1), ir_string(ir, text));
}

ir_node making_mark(struct making *m, const char *text)
{
	return vocab_has_control(m->v, text) ? control(m->ir, text) : ir_string(m->ir, text);
}

ir_node making_gap(struct making *m)
{
	ir_node one = IR_ALT_OF(m->ir, ir_string(m->ir, "\n"), ir_string(m->ir, " "));

	return ir_rep(m->ir, one, 0, 4);
}

/* The first @n bytes of a marker; 0 bytes: the beginning. */
struct place {
	const char *text;
	size_t n;
};

struct places {
	struct place at[MARKS_MAX * MARK_MAX + 1];
	uint32_t n;
};

/* The number of the longest place that these bytes end with; the empty one ends every text. */
static uint32_t place_of(const struct places *p, const char *bytes, size_t n)
{
	uint32_t best = 0;

	for (uint32_t i = 1; i < p->n; i++) {
		const struct place *q = &p->at[i];

		if (q->n <= n && q->n > p->at[best].n && !memcmp(bytes + n - q->n, q->text, q->n))
			best = i;
	}
	return best;
}

/* The marker that these bytes end with, or @n_marks. */
static size_t mark_of(const struct mark *marks, size_t n_marks, const char *bytes, size_t n)
{
	size_t i = 0, len;

	for (; i < n_marks; i++) {
		len = strlen(marks[i].text);
		if (len <= n && !memcmp(bytes + n - len, marks[i].text, len))
			break;
	}
	return i;
}

static void list_places(const struct mark *marks, size_t n, struct places *p)
{
	p->at[0] = (struct place){ "", 0 };
	p->n = 1;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 1; k < strlen(marks[i].text); k++) {
			const struct place *q = &p->at[place_of(p, marks[i].text, k)];

			if (q->n != k)
				p->at[p->n++] = (struct place){ marks[i].text, k };
		}
}

/* What follows the spelled marker @i: nothing where a token of that name is the marker. */
static ir_node spelled(struct making *m, const struct mark *mark)
{
	return vocab_has_control(m->v, mark->text) ? ir_fail() : mark->next;
}

/* The alternatives at place @k: a byte and the place behind it, a marker's end, a control token. */
static ir_node at_place(struct making *m, const struct mark *marks, size_t n,
			const struct places *p, uint32_t first, uint32_t k, bool may_end)
{
	struct ir *ir = m->ir;
	struct ir_set rest = { .bits = { ~0ull, ~0ull, ~0ull, ~0ull } };
	struct ir_list all = { 0 };
	uint8_t seen[256] = { [VOCAB_CONTROL] = 1 };
	char bytes[MARK_MAX + 1];
	ir_node node;

	memcpy(bytes, p->at[k].text, p->at[k].n);
	rest.bits[VOCAB_CONTROL / 64] &= ~(1ull << VOCAB_CONTROL % 64);
	for (size_t i = 0; i < n; i++)
		for (const char *b = marks[i].text; *b; b++) {
			unsigned char byte = (unsigned char)*b;
			size_t end, len = p->at[k].n + 1;

			if (seen[byte]++)
				continue;
			rest.bits[byte / 64] &= ~(1ull << byte % 64);
			bytes[len - 1] = *b;
			end = mark_of(marks, n, bytes, len);
			node = end < n ? spelled(m, &marks[end])
				       : ir_ref(ir, first + place_of(p, bytes, len));
			ir_push(ir, &all, IR_SEQ_OF(ir, ir_byte_range(ir, byte, byte), node));
		}
	ir_push(ir, &all, IR_SEQ_OF(ir, ir_bytes(ir, &rest), ir_ref(ir, first)));
	for (size_t i = 0; i < n; i++)
		if (vocab_has_control(m->v, marks[i].text))
			ir_push(ir, &all, IR_SEQ_OF(ir, control(ir, marks[i].text), marks[i].next));
	if (may_end)
		ir_push(ir, &all, ir_empty());
	node = ir_alt(ir, all.nodes, all.n);
	ir_list_done(&all);
	return node;
}

ir_node making_text(struct making *m, const struct mark *marks, size_t n, bool may_end)
{
	struct places p;
	uint32_t first = 0;

	assert(n <= MARKS_MAX);
	for (size_t i = 0; i < n; i++)
		assert(strlen(marks[i].text) <= MARK_MAX);
	list_places(marks, n, &p);
	for (uint32_t k = 0; k < p.n; k++) {
		uint32_t rule = ir_rule(m->ir, NULL, 0);

		first = k ? first : rule;
	}
	for (uint32_t k = 0; k < p.n && !ir_error(m->ir); k++)
		ir_rule_set(m->ir, first + k, at_place(m, marks, n, &p, first, k, may_end));
	return ir_ref(m->ir, first);
}

ir_node making_until(struct making *m, const char *mark, ir_node next, bool may_end)
{
	const struct mark one = { mark, next };

	return making_text(m, &one, 1, may_end);
}
