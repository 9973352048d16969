/* SPDX-License-Identifier: MIT */
/*
 * tools/json_input.h: a verb's input as json-c's objects, which keep key order and number text. Apart
 * from input.h, whose JSON is jansson's: the two libraries' headers clash. One thread.
 */
#ifndef SLUICE_TOOLS_JSON_INPUT_H
#define SLUICE_TOOLS_JSON_INPUT_H

#include <stddef.h>

#include "base/err.h"
#include "base/jsonc.h"

/*
 * One JSON object in @n bytes of UTF-8 with a NUL behind them: a new object, the caller's to put.
 * 0, or -EINVAL, -ENOMEM and a sentence.
 */
int input_json_object(const char *text, size_t n, struct json_object **ret, struct err *err);

#endif
