/* SPDX-License-Identifier: MIT */
/* daemon/chat/jinja_filter_number.c: filters that take or make numbers. See jinja.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "chat/jinja_run.h"

FILTER(abs)
{
	jargs_bind(j, a, "abs", "", NULL);
	if (v.type == J_UNDEF)
		jv_fail_undefined(j, &v);
	if (!jv_is_number(&v))
		jinja_fail(j, -EINVAL, "abs of a value of type %s", jv_type_name(&v));
	if (v.type == J_FLOAT)
		return jv_float(fabs(v.f));
	return jv_int(jv_as_int(&v) < 0 ? -jv_as_int(&v) : jv_as_int(&v));
}

/* Towards zero; false where no int is it. */
static bool whole(double f, jint *ret)
{
	if (!isfinite(f) || fabs(f) >= 0x1p126)
		return false;
	*ret = (jint)f;
	return true;
}

FILTER(int)
{
	jint base = 10, i;
	struct jv arg[2];
	double f;

	jargs_bind(j, a, "int", "/default,base", arg);
	if (arg[0].type == J_MISSING)
		arg[0] = jv_int(0);
	if (arg[1].type != J_MISSING)
		base = jarg_int(j, &arg[1], "a base");
	if (v.type == J_UNDEF)
		jv_fail_undefined(j, &v);
	if (v.type == J_INT || v.type == J_BOOL)
		return jv_int(jv_as_int(&v));
	if (v.type == J_FLOAT)
		return whole(v.f, &i) ? jv_int(i) : arg[0];
	if (v.type != J_STR)
		return arg[0];
	if ((base == 0 || (base >= 2 && base <= 36)) && jint_parse(j, v.s, (unsigned)base, &i))
		return jv_int(i);
	return jfloat_parse(v.s, &f) && whole(f, &i) ? jv_int(i) : arg[0];
}

FILTER(float)
{
	struct jv fallback;
	double f;

	jargs_bind(j, a, "float", "/default", &fallback);
	if (fallback.type == J_MISSING)
		fallback = jv_float(0);
	if (v.type == J_UNDEF)
		jv_fail_undefined(j, &v);
	if (jv_is_number(&v))
		return jv_float(jv_as_float(&v));
	return v.type == J_STR && jfloat_parse(v.s, &f) ? jv_float(f) : fallback;
}

FILTER(round)
{
	struct jv arg[2], scale, ten = jv_int(10);
	jint precision = 0;

	jargs_bind(j, a, "round", "/precision,method", arg);
	if (arg[0].type != J_MISSING)
		precision = jarg_int(j, &arg[0], "a precision");
	if (precision > 300 || precision < -300)
		jinja_fail(j, -EINVAL, "round: a precision beyond 300");
	if (!jv_is_number(&v))
		jinja_fail(j, -EINVAL, "round of a value of type %s", jv_type_name(&v));
	if (arg[1].type == J_MISSING || jstr_is(jarg_str(j, &arg[1], "a method"), "common")) {
		if (v.type == J_FLOAT)
			return jv_float(jfloat_round(v.f, (int)precision));
		if (precision < 0)
			jinja_fail(j, -EINVAL, "round of an integer to tens is not supported");
		return jv_int(jv_as_int(&v));
	}
	if (!jstr_is(arg[1].s, "ceil") && !jstr_is(arg[1].s, "floor"))
		jinja_fail(j, -EINVAL, "round: the method is common, ceil or floor");
	arg[0] = jv_int(precision);
	scale = jv_binary(j, 'p', &ten, &arg[0]);
	v = jv_binary(j, '*', &v, &scale);
	v = jv_float(jstr_is(arg[1].s, "ceil") ? ceil(jv_as_float(&v)) : floor(jv_as_float(&v)));
	return jv_binary(j, '/', &v, &scale);
}

FILTER(filesizeformat)
{
	static const char *const decimal[] = { "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB" };
	static const char *const powers[] = {
		"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"
	};
	struct jv binary;
	double bytes, base, unit;
	char out[64];
	int i = 0;

	jargs_bind(j, a, "filesizeformat", "/binary", &binary);
	if (v.type == J_UNDEF)
		jv_fail_undefined(j, &v);
	if (jv_is_number(&v))
		bytes = jv_as_float(&v);
	else if (v.type != J_STR || !jfloat_parse(v.s, &bytes))
		jinja_fail(j, -EINVAL, "filesizeformat of what is no number");
	base = jv_truth(j, &binary) ? 1024 : 1000;
	if (bytes == 1)
		return jv_text(j, "1 Byte");
	if (bytes < base) {
		if (bytes <= -0x1p63)
			jinja_fail(j, -EINVAL, "filesizeformat: %.3g is not supported", bytes);
		snprintf(out, sizeof(out), "%lld Bytes", (long long)bytes);
		return jv_str(jstr_copy(j, out, strlen(out), true));
	}
	for (unit = base * base; i < 7 && !(bytes < unit); i++) /* and what is no number */
		unit *= base;
	snprintf(out, sizeof(out), "%.1f %s", base * bytes / unit,
		 base == 1024 ? powers[i] : decimal[i]);
	return jv_str(jstr_copy(j, out, strlen(out), true));
}

const struct jfilter *jinja_filter_number(const struct jstr *name)
{
	static const struct jfilter all[] = {
		FILTER_ROW(abs),
		FILTER_ROW(int),
		FILTER_ROW(float),
		FILTER_ROW(round),
		FILTER_ROW(filesizeformat),
	};

	return jfilter_named(all, sizeof(all) / sizeof(all[0]), name);
}
