/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_number.c: numbers: minimum, maximum and their exclusive forms by comparing
 * digits; multipleOf one by one between bounds that are close, else by the remainders of digits, together with
 * the bounds by schema_both.c. And whether a number that is given fits.
 *
 * A number between bounds is written without an exponent. Its digits are compared from the first:
 * while they equal a bound's it is tight there, and each next digit may not go beyond it. A state of
 * that comparison (place, tight below, tight above) is a rule.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grammar/schema_impl.h"

#define MAX_DIGITS     40
#define MAX_LISTED     1000 /* multiples between bounds */
#define MAX_REMAINDERS 4000 /* of digits so far, at each place */
#define MORE_ZEROS     20   /* behind the digits of both bounds: a number comes to an end */

/* A bound without its sign: digits before the point (no leading zeros) and behind (no trailing). */
struct decimal {
	bool set, negative, open; /* open: the bound itself is not within */
	unsigned n_int, n_frac;
	char digits[2 * MAX_DIGITS]; /* n_int, then n_frac */
};

/* "-12.50e1" -> digits; false: too long, or no number. */
static bool parse(const char *text, struct decimal *d)
{
	char all[2 * MAX_DIGITS];
	long point = -1, exponent = 0;
	unsigned n = 0, from;

	d->negative = *text == '-';
	for (text += d->negative; *text && *text != 'e' && *text != 'E'; text++) {
		if (*text == '.') {
			point = n;
			continue;
		}
		if (*text < '0' || *text > '9' || n == MAX_DIGITS)
			return false;
		all[n++] = *text;
	}
	if (*text)
		exponent = strtol(text + 1, NULL, 10);
	if (exponent > MAX_DIGITS || exponent < -MAX_DIGITS)
		return false;
	point = (point < 0 ? (long)n : point) + exponent;
	if (point > MAX_DIGITS || point < -MAX_DIGITS)
		return false;
	/* zeros up to the point, on either side of it */
	d->n_int = d->n_frac = 0;
	for (long i = point < 0 ? point : 0; i < (point > (long)n ? point : (long)n); i++) {
		if (d->n_int + d->n_frac == 2 * MAX_DIGITS)
			return false;
		d->digits[d->n_int + d->n_frac] = i < 0 || i >= (long)n ? '0' : all[i];
		if (i < point)
			d->n_int++;
		else
			d->n_frac++;
	}
	for (from = 0; from < d->n_int && d->digits[from] == '0'; from++)
		continue;
	memmove(d->digits, d->digits + from, d->n_int + d->n_frac - from);
	d->n_int -= from;
	while (d->n_frac && d->digits[d->n_int + d->n_frac - 1] == '0')
		d->n_frac--;
	if (!d->n_int && !d->n_frac)
		d->negative = false;
	return true;
}

/* Digit @i before (from the front of @len) or behind the point. */
static unsigned int_digit(const struct decimal *d, unsigned len, unsigned i)
{
	unsigned pad = len - d->n_int;

	return i < pad ? 0 : (unsigned)(d->digits[i - pad] - '0');
}

static unsigned frac_digit(const struct decimal *d, unsigned i)
{
	return i < d->n_frac ? (unsigned)(d->digits[d->n_int + i] - '0') : 0;
}

/* Of numbers from 0 on: not below lo, not above hi. */
struct between {
	struct schema *s;
	const struct decimal *lo, *hi; /* of which hi may be not set */
	bool integer;
	uint32_t frac_rule[4][2 * MAX_DIGITS + MORE_ZEROS + 1]; /* by tightness and place, + 1 */
};

/* What has been written may stand as the whole number: @i digits behind the point so far. */
static bool may_end(const struct between *b, unsigned i, bool lo, bool hi)
{
	if (lo && (b->lo->n_frac > i || b->lo->open))
		return false;
	return !hi || b->hi->n_frac > i || !b->hi->open;
}

static ir_node frac(struct between *b, unsigned i, bool lo, bool hi);

/* One digit at place @i behind the point and what may follow. */
static ir_node frac_digits(struct between *b, unsigned i, bool lo, bool hi)
{
	struct ir *ir = b->s->ir;
	unsigned from = lo ? frac_digit(b->lo, i) : 0, to = hi ? frac_digit(b->hi, i) : 9;
	struct ir_list parts = { 0 };
	ir_node node;

	for (unsigned d = from; d <= to; d++)
		ir_push(ir, &parts,
			IR_SEQ_OF(ir, ir_byte_range(ir, '0' + d, '0' + d),
				  frac(b, i + 1, lo && d == from, hi && d == to)));
	node = ir_alt(ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

static ir_node frac(struct between *b, unsigned i, bool lo, bool hi)
{
	struct ir *ir = b->s->ir;
	unsigned last = b->lo->n_frac > b->hi->n_frac ? b->lo->n_frac : b->hi->n_frac;
	uint32_t *rule = &b->frac_rule[lo * 2 + hi][i];

	if (!lo && !hi)
		return ir_rep(ir, ir_byte_range(ir, '0', '9'), 0, 20);
	if (!*rule) {
		*rule = ir_rule(ir, NULL, 0) + 1;
		ir_rule_set(ir, *rule - 1,
			    IR_ALT_OF(ir,
				      i < last + MORE_ZEROS ? frac_digits(b, i, lo, hi) : ir_fail(),
				      may_end(b, i, lo, hi) ? ir_empty() : ir_fail()));
	}
	return ir_ref(ir, *rule - 1);
}

static ir_node behind_point(struct between *b, bool lo, bool hi)
{
	struct ir *ir = b->s->ir;
	ir_node end = may_end(b, 0, lo, hi) ? ir_empty() : ir_fail(), digits;

	if (b->integer)
		return end;
	digits = lo || hi ? frac_digits(b, 0, lo, hi)
			  : ir_rep(ir, ir_byte_range(ir, '0', '9'), 1, 20);
	return IR_ALT_OF(ir, end, IR_SEQ_OF(ir, ir_string(ir, "."), digits));
}

/* Digits @i and on of the @len before the point. */
static ir_node whole(struct between *b, unsigned len, unsigned i, bool lo, bool hi)
{
	struct ir *ir = b->s->ir;
	unsigned from = lo ? int_digit(b->lo, len, i) : 0, to = hi ? int_digit(b->hi, len, i) : 9;
	struct ir_list parts = { 0 };
	ir_node node;

	if (i == len)
		return behind_point(b, lo, hi);
	if (!i && len > 1 && !from)
		from = 1; /* no leading zeros; the number is larger than such a bound then */
	if (!lo && !hi)
		return IR_SEQ_OF(ir, i ? ir_empty() : ir_byte_range(ir, from + '0', '9'),
				 ir_rep(ir, ir_byte_range(ir, '0', '9'), len - (i ? i : 1),
					len - (i ? i : 1)),
				 behind_point(b, false, false));
	for (unsigned d = from; d <= to;) {
		bool l = lo && d == int_digit(b->lo, len, i), h = hi && d == to;
		unsigned e = d;

		/* those between the bounds go the same way */
		while (!l && !h && e < to && !(hi && e + 1 == to))
			e++;
		ir_push(ir, &parts,
			IR_SEQ_OF(ir, ir_byte_range(ir, '0' + d, '0' + e),
				  whole(b, len, i + 1, l, h)));
		d = e + 1;
	}
	node = ir_alt(ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

/* Numbers from 0 on within the bounds, without a sign. */
static ir_node between(struct schema *s, const struct decimal *lo, const struct decimal *hi,
		       bool integer)
{
	static const struct decimal none = { .set = false };
	struct between b = { .s = s, .lo = lo, .hi = hi ? hi : &none, .integer = integer };
	unsigned least = lo->n_int > 1 ? lo->n_int : 1, most = hi ? hi->n_int : 0;
	struct ir_list parts = { 0 };
	ir_node node;

	most = most > 1 ? most : 1;
	if (!hi)
		most = least;
	for (unsigned len = least; len <= most; len++)
		ir_push(s->ir, &parts, whole(&b, len, 0, len == least, hi && len == most));
	if (!hi && least < 20) /* and whatever is longer */
		ir_push(s->ir, &parts,
			IR_SEQ_OF(s->ir, ir_byte_range(s->ir, '1', '9'),
				  ir_rep(s->ir, ir_byte_range(s->ir, '0', '9'), least, 19),
				  behind_point(&b, false, false)));
	node = ir_alt(s->ir, parts.nodes, parts.n);
	ir_list_done(&parts);
	return node;
}

/* ---- both signs ---- */

static int compare(const struct decimal *a, const struct decimal *b)
{
	unsigned n = a->n_frac > b->n_frac ? a->n_frac : b->n_frac;

	if (a->n_int != b->n_int)
		return a->n_int < b->n_int ? -1 : 1;
	for (unsigned i = 0; i < a->n_int; i++)
		if (a->digits[i] != b->digits[i])
			return a->digits[i] < b->digits[i] ? -1 : 1;
	for (unsigned i = 0; i < n; i++)
		if (frac_digit(a, i) != frac_digit(b, i))
			return frac_digit(a, i) < frac_digit(b, i) ? -1 : 1;
	return 0;
}

static bool leaves_any(const struct decimal *lo, const struct decimal *hi)
{
	int order = hi ? compare(lo, hi) : -1;

	return order < 0 || (!order && !lo->open && !hi->open);
}

static ir_node bounded(struct schema *s, const struct decimal *lo, const struct decimal *hi,
		       bool integer)
{
	const struct decimal zero = { .set = true }, above = { .set = true, .open = true };
	struct ir *ir = s->ir;
	ir_node positive = ir_fail(), negative = ir_fail();

	if (!hi->set || !hi->negative) {
		const struct decimal *from = lo->set && !lo->negative ? lo : &zero;
		const struct decimal *to = hi->set ? hi : NULL;

		if (leaves_any(from, to))
			positive = between(s, from, to, integer);
	}
	if (!lo->set || lo->negative) {
		const struct decimal *from = hi->set && hi->negative ? hi : &above;
		const struct decimal *to = lo->set ? lo : NULL;

		if (leaves_any(from, to))
			negative = IR_SEQ_OF(ir, ir_string(ir, "-"), between(s, from, to, integer));
	}
	return IR_ALT_OF(ir, positive, negative);
}

/* ---- keywords ---- */

/* minimum with exclusiveMinimum, or the two others: the stricter. Draft 4's `true` counts too. */
static int read_bound(struct schema *s, struct json_object *o, const char *key,
		      const char *exclusive, bool lower, struct decimal *ret)
{
	struct json_object *v[2] = { schema_get(o, key), schema_get(o, exclusive) };
	bool flag = json_object_is_type(v[1], json_type_boolean);
	bool open = flag && json_object_get_boolean(v[1]);

	*ret = (struct decimal){ 0 };
	if (flag)
		v[1] = NULL;
	if (v[0] && v[1]) {
		double a = json_object_get_double(v[0]), b = json_object_get_double(v[1]);
		bool first = lower ? a > b : a < b;

		v[first] = NULL;
	}
	for (unsigned i = 0; i < 2; i++) {
		if (!v[i])
			continue;
		if (!json_object_is_type(v[i], json_type_int) &&
		    !json_object_is_type(v[i], json_type_double))
			return schema_error(s, -EINVAL, "%s must be a number", i ? exclusive : key);
		ret->set = parse(schema_digits(s, v[i]), ret);
		ret->open = i == 1 || open;
		if (!ret->set)
			return schema_cannot(s, i ? exclusive : key, "it has too many digits");
	}
	return 0;
}

/* Multiples of @a / 10^@k, without an exponent: a rule for each place (0: before the point) and remainder. */
struct multiples {
	struct ir *ir;
	unsigned a, k;
	uint32_t first;
};

static ir_node one_digit(const struct multiples *m, unsigned place, unsigned rest, unsigned d)
{
	return IR_SEQ_OF(m->ir, ir_byte_range(m->ir, '0' + d, '0' + d),
			 ir_ref(m->ir, m->first + place * m->a + (rest * 10 + d) % m->a));
}

/* A further digit at @place, of which @from is the least. */
static ir_node digits_at(const struct multiples *m, unsigned place, unsigned rest, unsigned from)
{
	ir_node parts[10] = { 0 };

	for (unsigned d = from; d < 10; d++)
		parts[d] = one_digit(m, place, rest, d);
	return ir_alt(m->ir, parts, 10);
}

static ir_node point(const struct multiples *m, unsigned rest)
{
	if (!m->k)
		return ir_fail();
	return IR_SEQ_OF(m->ir, ir_string(m->ir, "."), digits_at(m, 1, rest, 0));
}

static ir_node multiples(struct ir *ir, unsigned a, unsigned k)
{
	struct multiples m = { .ir = ir, .a = a, .k = k };
	ir_node zero = ir_string(ir, "0"), minus = ir_rep(ir, ir_string(ir, "-"), 0, 1);

	for (unsigned i = 0; i < a * (k + 1); i++) {
		uint32_t rule = ir_rule(ir, NULL, 0);

		m.first = i ? m.first : rule;
	}
	for (unsigned place = 0; place <= k; place++) {
		unsigned scale = 1;

		for (unsigned i = place; i < k; i++)
			scale = scale * 10 % a;
		for (unsigned r = 0; r < a && ir_goes_on(ir); r++) {
			bool end = !(r * scale % a);
			ir_node more = ir_fail();

			if (!place)
				more = IR_ALT_OF(ir, digits_at(&m, 0, r, 0), point(&m, r));
			else if (place < k)
				more = digits_at(&m, place + 1, r, 0);
			ir_rule_set(ir, m.first + place * a + r,
				    IR_ALT_OF(ir, more, end ? ir_empty() : ir_fail()));
		}
	}
	return IR_ALT_OF(ir, zero, IR_SEQ_OF(ir, minus, digits_at(&m, 0, 0, 1)),
			 IR_SEQ_OF(ir, minus, zero, point(&m, 0)));
}

static double value_of(const struct decimal *d)
{
	double v = 0, unit = 1;

	for (unsigned i = 0; i < d->n_int + d->n_frac; i++)
		v = v * 10 + (d->digits[i] - '0');
	for (unsigned i = 0; i < d->n_frac; i++)
		unit *= 10;
	return (d->negative ? -v : v) / unit;
}

/* Between two bounds, one after the other. False: too many, or too large to be counted exactly. */
static bool listed_multiples(struct schema *s, double m, const struct decimal *lo,
			     const struct decimal *hi, ir_node *ret)
{
	double from = ceil(value_of(lo) / m), to = floor(value_of(hi) / m);
	struct ir_list all = { 0 };
	char text[32];

	from += lo->open && from * m == value_of(lo);
	to -= hi->open && to * m == value_of(hi);
	if (!lo->set || !hi->set || m != floor(m) || m > 1e15 || lo->n_int + lo->n_frac > 15 ||
	    hi->n_int + hi->n_frac > 15 || to - from >= MAX_LISTED)
		return false;
	for (double k = from; k <= to; k++) {
		snprintf(text, sizeof(text), "%.0f", k * m + 0.0); /* no "-0" */
		ir_push(s->ir, &all, ir_string(s->ir, text));
	}
	*ret = ir_alt(s->ir, all.nodes, all.n);
	ir_list_done(&all);
	return true;
}

/* What schema_both() puts together. */
struct number {
	struct json_object *multiple; /* NULL: none */
	bool integer;
	struct decimal lo, hi;
};

/* Multiples of a number without bounds. ir_fail(): they cannot be held. */
static ir_node any_multiple(struct schema *s, struct json_object *v, bool integer)
{
	struct decimal d;
	unsigned a = 0, k, twos, fives;

	if (!parse(schema_digits(s, v), &d) || d.n_int + d.n_frac > 9)
		return ir_fail();
	for (unsigned i = 0; i < d.n_int + d.n_frac; i++)
		a = a * 10 + (unsigned)(d.digits[i] - '0');
	k = d.n_frac;
	if (integer) { /* a whole number is one of a / 10^k where it is one of a without their common factors */
		for (twos = k; twos && a % 2 == 0; twos--)
			a /= 2;
		for (fives = k; fives && a % 5 == 0; fives--)
			a /= 5;
		k = 0;
	}
	return a * (k + 1) > MAX_REMAINDERS ? ir_fail() : multiples(s->ir, a, k);
}

static int make_multiples(struct schema *s, const void *arg, ir_node *ret)
{
	const struct number *x = arg;

	*ret = any_multiple(s, x->multiple, x->integer);
	return 0;
}

static int make_bounds(struct schema *s, const void *arg, ir_node *ret)
{
	const struct number *x = arg;

	if (x->lo.set || x->hi.set)
		*ret = bounded(s, &x->lo, &x->hi, x->integer);
	else
		*ret = schema_shared(s, x->integer ? SHARED_INTEGER : SHARED_NUMBER);
	return 0;
}

/* *ret_held false: it is left out. */
static int multiple_of(struct schema *s, const struct number *x, ir_node *ret, bool *ret_held)
{
	const struct schema_part parts[] = { { make_multiples, x }, { make_bounds, x } };
	double m = json_object_get_double(x->multiple);
	bool bounds = x->lo.set || x->hi.set, large = false;
	ir_node any;
	int rc;

	*ret_held = true;
	if (bounds && listed_multiples(s, m, &x->lo, &x->hi, ret))
		return 0;
	any = any_multiple(s, x->multiple, x->integer);
	if (any != ir_fail()) {
		rc = schema_both(s, parts, 2, ret, &large);
		if (rc || !large)
			return rc;
		*ret = any; /* whose digits need not come to an end */
		if (!bounds)
			return 0;
	}
	*ret_held = false;
	return schema_cannot(s, "multipleOf", large ? "beside such bounds" : NULL);
}

static int read(struct schema *s, struct json_object *o, bool integer, struct number *x)
{
	double m;
	int rc;

	*x = (struct number){ .multiple = schema_get(o, "multipleOf"), .integer = integer };
	m = json_object_get_double(x->multiple);
	rc = read_bound(s, o, "minimum", "exclusiveMinimum", true, &x->lo);
	rc = rc ? rc : read_bound(s, o, "maximum", "exclusiveMaximum", false, &x->hi);
	if (!rc && x->multiple && !(m > 0.0))
		return schema_error(s, -EINVAL, "multipleOf must be a number above 0");
	if (integer && m == 1.0)
		x->multiple = NULL;
	return rc;
}

int schema_number(struct schema *s, struct json_object *o, bool integer, ir_node *ret)
{
	struct number x;
	bool held = false;
	int rc = read(s, o, integer, &x);

	if (!rc && x.multiple)
		rc = multiple_of(s, &x, ret, &held);
	return rc || held ? rc : make_bounds(s, &x, ret);
}

/* ---- a number that is given ---- */

static int order(const struct decimal *a, const struct decimal *b)
{
	if (a->negative != b->negative)
		return a->negative ? -1 : 1;
	return a->negative ? compare(b, a) : compare(a, b);
}

/* Long division by the digits, both without their points. False: @m has too many. */
static bool divides(const struct decimal *m, const struct decimal *v, bool *ret)
{
	unsigned places = m->n_frac > v->n_frac ? m->n_frac : v->n_frac;
	uint64_t by = 0, rest = 0;

	for (unsigned i = 0; i < m->n_int + places; i++) {
		if (by > UINT64_MAX / 200)
			return false;
		by = by * 10 +
		     (i < m->n_int ? (unsigned)(m->digits[i] - '0') : frac_digit(m, i - m->n_int));
	}
	for (unsigned i = 0; i < v->n_int + places; i++)
		rest = (rest * 10 + (i < v->n_int ? (unsigned)(v->digits[i] - '0')
						  : frac_digit(v, i - v->n_int))) %
		       by;
	*ret = !rest;
	return true;
}

int schema_number_fits(struct schema *s, struct json_object *o, struct json_object *value,
		       bool *ret)
{
	struct number x;
	struct decimal v, m;
	int rc = read(s, o, false, &x);

	*ret = true;
	if (rc)
		return rc;
	if (!parse(schema_digits(s, value), &v))
		return schema_cannot(s, "enum", "a number has too many digits");
	if (x.lo.set)
		*ret &= order(&v, &x.lo) >= x.lo.open;
	if (x.hi.set)
		*ret &= order(&v, &x.hi) <= -x.hi.open;
	if (x.multiple && *ret &&
	    (!parse(schema_digits(s, x.multiple), &m) || !divides(&m, &v, ret)))
		return schema_cannot(s, "multipleOf",
				     "beside enum or const: it has too many digits");
	return 0;
}

bool schema_number_same(struct schema *s, struct json_object *a, struct json_object *b)
{
	struct decimal x, y;

	if (!parse(schema_digits(s, a), &x) || !parse(schema_digits(s, b), &y))
		return json_object_equal(a, b);
	return !order(&x, &y);
}
