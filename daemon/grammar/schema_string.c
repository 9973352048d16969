/* SPDX-License-Identifier: MIT */
/*
 * daemon/grammar/schema_string.c: strings: minLength and maxLength (counters), pattern (found anywhere,
 * ECMA-262's), and the formats below. A format that is none of JSON Schema's is a remark. Only one of
 * length, pattern and format is held at a time.
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
#define OCTET	  "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"

/* RFC 3339, 4122, 2673, 1123, and the part of RFC 5321's addresses that is in use. */
static const struct {
	const char *name, *regex;
} formats[] = {
	{ "date", DATE },
	{ "time", CLOCK ZONE },
	{ "date-time", DATE "T" CLOCK ZONE },
	{ "uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}" },
	{ "ipv4", OCTET "(\\." OCTET "){3}" },
	{ "email", "[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@" LABEL "(\\." LABEL ")+" },
	{ "hostname", LABEL "(\\." LABEL "){0,3}" },
};

/* Those of JSON Schema that nothing here holds. */
static const char *const not_held[] = {
	"ipv6",		"uri",	     "uri-reference", "iri",	      "iri-reference",
	"uri-template", "idn-email", "idn-hostname",  "json-pointer", "relative-json-pointer",
	"regex",	"duration",
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

/* *ret_none: the format says nothing here. */
static int format(struct schema *s, struct json_object *f, ir_node *ret, bool *ret_none)
{
	static const struct regex_options o = { .chars = json_chars };
	const char *name = json_object_get_string(f);
	ir_node node;
	int rc;

	*ret_none = true;
	if (!json_object_is_type(f, json_type_string))
		return schema_error(s, -EINVAL, "format must be a string");
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		if (strcmp(name, formats[i].name))
			continue;
		*ret_none = false;
		rc = regex_node(s->ir, formats[i].regex, strlen(formats[i].regex), &o, &node,
				s->err);
		*ret = quoted(s, node);
		return rc;
	}
	for (size_t i = 0; i < ARRAY_LEN(not_held); i++)
		if (!strcmp(name, not_held[i]))
			return schema_cannot(s, "format", name);
	return 0;
}

int schema_string(struct schema *s, struct json_object *o, ir_node *ret)
{
	static struct ir_range all = { 0, IR_MAX_CODE };
	const struct ir_chars_set any = { .ranges = &all, .n = 1 };
	struct json_object *p = schema_get(o, "pattern"), *f = schema_get(o, "format");
	uint32_t min = 0, max = IR_UNBOUNDED;
	bool none = true, bounded;
	int rc = schema_size(s, o, "minLength", &min);

	rc = rc ? rc : schema_size(s, o, "maxLength", &max);
	bounded = min || max != IR_UNBOUNDED;
	if (!rc && p)
		rc = pattern(s, p, ret);
	else if (!rc && f)
		rc = format(s, f, ret, &none);
	if (!rc && p && f) {
		ir_node both;

		rc = format(s, f, &both, &none);
		if (!rc && !none)
			rc = schema_cannot(s, "format", "beside pattern");
	}
	if (!rc && bounded && (p || !none))
		rc = schema_cannot(s, max == IR_UNBOUNDED ? "minLength" : "maxLength",
				   p ? "beside pattern" : "beside format");
	if (rc || p || !none)
		return rc;
	if (max < min)
		*ret = ir_fail();
	else if (bounded)
		*ret = quoted(s, ir_rep(s->ir, json_chars(s->ir, &any), min, max));
	else
		*ret = schema_shared(s, SHARED_STRING);
	return 0;
}
