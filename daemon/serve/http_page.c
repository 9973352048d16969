/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/http_page.c: the page at "/" and its files (page/), which are part of the program.
 * They name no other place, and the policy that goes with them lets a browser load nothing else.
 * Main thread.
 */
#include <string.h>

#include "serve/http_private.h"

/* The files' bytes, as they are, in a section that is only read. Paths: from the project's root. */
#define EMBED(name, path)                                \
	__asm__(".pushsection .rodata\n"                 \
		".balign 16\n" #name "_begin:\n"         \
		".incbin \"" path "\"\n" #name "_end:\n" \
		".byte 0\n"                              \
		".popsection\n");                        \
	extern const char name##_begin[], name##_end[]

EMBED(page_html, "daemon/serve/page/index.html");
EMBED(page_js, "daemon/serve/page/page.js");
EMBED(page_css, "daemon/serve/page/page.css");
EMBED(page_icon, "daemon/serve/page/icon.svg");

static const struct {
	const char *path, *type, *begin, *end;
} files[] = {
	{ "/", "text/html; charset=utf-8", page_html_begin, page_html_end },
	{ "/page.js", "text/javascript; charset=utf-8", page_js_begin, page_js_end },
	{ "/page.css", "text/css; charset=utf-8", page_css_begin, page_css_end },
	{ "/icon.svg", "image/svg+xml", page_icon_begin, page_icon_end },
};

void page_answer(struct http_request *r)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (strcmp(files[i].path, r->route->path))
			continue;
		buf_put(&b, files[i].begin, (size_t)(files[i].end - files[i].begin));
		r->page = true;
		http_reply(r, 200, files[i].type, &b);
		return;
	}
}
