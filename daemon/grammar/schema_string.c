/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_string.c: strings: minLength and maxLength (counters), pattern (found anywhere,
 * ECMA-262's), and the formats below; several of them at once by schema_both.c. A format that is none of
 * JSON Schema's is a remark.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "grammar/regex.h"
#include "grammar/schema_impl.h"

#define MONTHS_31 "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
#define MONTHS_30 "(0[469]|11)-(0[1-9]|[12][0-9]|30)"
#define LEAP	  "([0-9][0-9](0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29"
#define YEAR	  "([0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})"
#define DATE	  "(" YEAR "-(" MONTHS_31 "|" MONTHS_30 "|02-(0[1-9]|1[0-9]|2[0-8]))|" LEAP ")"
#define CLOCK	  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?"
#define ZONE	  "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL	  "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST	  LABEL "(\\." LABEL "){0,3}"
#define ATOM	  "[A-Za-z0-9_+-]"
#define LOCAL \
	"(" ATOM "{1,64}|" ATOM "{1,31}\\." ATOM "{1,32}|" ATOM "{1,20}(\\." ATOM "{1,21}){2})"
#define OCTET "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4  OCTET "(\\." OCTET "){3}"
#define H16   "[0-9a-fA-F]{1,4}"
#define IPV6                                                                                   \
	"((" H16 ":){7}" H16 "|(" H16 ":){1,7}:|(" H16 ":){1,6}:" H16 "|(" H16 ":){1,5}(:" H16 \
	"){1,2}|(" H16 ":){1,4}(:" H16 "){1,3}|(" H16 ":){1,3}(:" H16 "){1,4}|(" H16           \
	":){1,2}(:" H16 "){1,5}|" H16 ":(:" H16 "){1,6}|:((:" H16 "){1,7}|:))"
#define N	 "[0-9]{1,6}"
#define HOURS	 "T(" N "H(" N "M(" N "S)?)?|" N "M(" N "S)?|" N "S)"
#define DURATION "P((" N "Y(" N "M(" N "D)?)?|" N "M(" N "D)?|" N "D)(" HOURS ")?|" HOURS "|" N "W)"
#define PCHAR	 "([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})"
#define QCHAR	 "([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-F]{2})"
#define PORT	 "([1-9][0-9]{0,3}|[1-5][0-9]{4})"
/* a last label of digits would be an address that is none */
#define URI_HOST "((" LABEL "\\.){0,3}[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?|" IPV4 ")"
#define URI                                                                                     \
	"[A-Za-z][A-Za-z0-9+.-]{0,15}://" URI_HOST "(:" PORT ")?(/" PCHAR "{0,300})?(\\?" QCHAR \
	"{0,200})?(#" QCHAR "{0,60})?"

/*
 * RFC 3339, 4122, 2673, 4291, 1123, the part of RFC 5321's addresses that is in use, and of RFC 3986's
 * those with a host. How long one is at least and at most.
 */
static const struct {
	const char *name, *regex;
	uint32_t shortest, longest;
} formats[] = {
	{ "date", DATE, 10, 10 },
	{ "time", CLOCK ZONE, 9, 24 },
	{ "date-time", DATE "T" CLOCK ZONE, 20, 35 },
	{ "duration", DURATION, 3, 44 },
	{ "uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", 36, 36 },
	{ "ipv4", IPV4, 7, 15 },
	{ "ipv6", IPV6, 2, 39 },
	{ "email", LOCAL "@" LABEL "(\\." LABEL "){1,3}", 5, 320 },
	{ "hostname", HOST, 1, 255 },
	{ "uri", URI, 5, 1963 },
};

/* Those of JSON Schema that nothing here holds. */
static const char *const not_held[] = {
	"uri-reference", "iri",		 "iri-reference", "uri-template",	   "idn-email",
	"idn-hostname",	 "json-pointer", "regex",	  "relative-json-pointer",
};

static ir_node quoted(struct schema *s, ir_node node)
{
	return IR_SEQ_OF(s->ir, ir_string(s->ir, "\""), node, ir_string(s->ir, "\""));
}

static int pattern(struct schema *s, struct json_object *p, ir_node *ret)
{
	static const struct regex_options o = { .chars = json_chars, .search = true, .ecma = true };
	ir_node node;
	int rc;

	if (!json_object_is_type(p, json_type_string))
		return schema_error(s, -EINVAL, "pattern must be a string");
	rc = regex_node(s->ir, json_object_get_string(p), (size_t)json_object_get_string_len(p), &o,
			&node, s->err);
	if (rc == -ENOTSUP && !s->o.strict) {
		*ret = schema_shared(s, SHARED_STRING);
		return 0;
	}
	if (rc)
		return err_prefix(s->err, rc, "pattern");
	*ret = quoted(s, node);
	return 0;
}

/* The place in formats[] of what @f names, -1: it says nothing here. */
static int find_format(struct schema *s, struct json_object *f, int *ret)
{
	const char *name = json_object_get_string(f);

	*ret = -1;
	if (!json_object_is_type(f, json_type_string))
		return schema_error(s, -EINVAL, "format must be a string");
	for (size_t i = 0; i < ARRAY_LEN(formats); i++)
		if (!strcmp(name, formats[i].name))
			*ret = (int)i;
	for (size_t i = 0; i < ARRAY_LEN(not_held); i++)
		if (!strcmp(name, not_held[i]))
			return schema_cannot(s, "format", name);
	return 0;
}

/* ---- parts of a string, each with its quotes ---- */

struct string {
	struct json_object *pattern;
	int format; /* -1: none */
	uint32_t min, max;
};

static int make_pattern(struct schema *s, const void *arg, ir_node *ret)
{
	return pattern(s, ((const struct string *)arg)->pattern, ret);
}

static int make_format(struct schema *s, const void *arg, ir_node *ret)
{
	static const struct regex_options o = { .chars = json_chars };
	const char *text = formats[((const struct string *)arg)->format].regex;
	ir_node node;
	int rc = regex_node(s->ir, text, strlen(text), &o, &node, s->err);

	*ret = quoted(s, node);
	return rc;
}

static int make_lengths(struct schema *s, const void *arg, ir_node *ret)
{
	static struct ir_range all = { 0, IR_MAX_CODE };
	const struct ir_chars_set any = { .ranges = &all, .n = 1 };
	const struct string *x = arg;

	*ret = quoted(s, ir_rep(s->ir, json_chars(s->ir, &any), x->min, x->max));
	return 0;
}

static int read(struct schema *s, struct json_object *o, struct string *x)
{
	struct json_object *f = schema_get(o, "format");
	int rc;

	*x = (struct string){ .pattern = schema_get(o, "pattern"),
			      .format = -1,
			      .max = IR_UNBOUNDED };
	rc = schema_size(s, o, "minLength", &x->min);
	rc = rc ? rc : schema_size(s, o, "maxLength", &x->max);
	return rc || !f ? rc : find_format(s, f, &x->format);
}

/* Whether the lengths say more than the format does. */
static bool bounds_format(const struct string *x)
{
	return x->format < 0 || x->min > formats[x->format].shortest ||
	       x->max < formats[x->format].longest;
}

int schema_string(struct schema *s, struct json_object *o, ir_node *ret)
{
	struct schema_part parts[3];
	struct string x;
	size_t n = 0;
	bool large = false;
	int rc = read(s, o, &x);

	if (rc || x.max < x.min) {
		*ret = ir_fail();
		return rc;
	}
	if (x.pattern)
		parts[n++] = (struct schema_part){ make_pattern, &x };
	if (x.format >= 0)
		parts[n++] = (struct schema_part){ make_format, &x };
	if ((x.min || x.max != IR_UNBOUNDED) && bounds_format(&x))
		parts[n++] = (struct schema_part){ make_lengths, &x };
	if (n > 1)
		rc = schema_both(s, parts, n, ret, &large);
	if (!rc && large)
		rc = schema_cannot(s,
				   x.pattern && x.format >= 0 ? "format"
				   : x.max == IR_UNBOUNDED    ? "minLength"
							      : "maxLength",
				   x.pattern ? "beside such a pattern" : "beside such a format");
	if (rc || (n > 1 && !large))
		return rc;
	if (n)
		return parts[0].make(s, &x, ret);
	*ret = schema_shared(s, SHARED_STRING);
	return 0;
}
