/* SPDX-License-Identifier: MIT */
/*
 * daemon/serve/options_check.c: what `sluiced --check-config` looks at beyond the table of options: whether model,
 * draft model, chat template, keys and peaks can be read by this process's user, whether slots have a directory, and
 * whether addresses that other machines reach have keys. Nothing is loaded, bound or resolved: a start may still
 * refuse for memory, for an address that is taken, for files of policies, oracles and traces, and for what stands in
 * all of these. Main thread.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"
#include "serve/http_address.h"
#include "serve/options.h"

static int check_directory(const char *name, const char *path, struct err *err)
{
	struct stat st;
	int rc = stat(path, &st) ? errno : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;

	return rc ? err_set(err, -rc, "%s %s: %s", name, path, strerror(rc)) : 0;
}

int options_check_files(const struct options *o, struct err *err)
{
	const struct {
		const char *name, *path;
	} files[] = {
		{ "--model", o->model },
		{ "--draft-model", o->draft_model },
		{ "--chat-template", o->chat_template },
		{ "--api-key-file", o->http.api_key_file },
		{ "--peaks", o->peaks },
	};

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (files[i].path && access(files[i].path, R_OK))
			return err_set(err, -errno, "%s %s: %s", files[i].name, files[i].path,
				       strerror(errno));
	if (o->save_path && check_directory("--slot-save-path", o->save_path, err))
		return -ENOTDIR;
	return http_addresses_check(&o->http, err);
}
