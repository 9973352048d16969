/* SPDX-License-Identifier: MIT */
/* base/log.c: see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static enum log_level max_level = LOG_INF;
static bool to_journal;

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_ERROR:
		return "error";
	case LOG_WARN:
		return "warn";
	case LOG_NOTICE:
		return "notice";
	case LOG_INF:
		return "info";
	default:
		return "debug";
	}
}

/* $JOURNAL_STREAM is "device:inode" of the stream that systemd gave us (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
	       !fstat(STDERR_FILENO, &st) && st.st_dev == device && st.st_ino == inode;
}

void log_init(enum log_level max)
{
	max_level = max;
	to_journal = stderr_is_journal();
}

void log_line(enum log_level level, const char *msg, const char *fmt, ...)
{
	char line[1024];
	size_t used = 0;
	va_list ap;

	if (level > max_level)
		return;
	if (to_journal) {
		used = (size_t)snprintf(line, sizeof(line), "<%d>", level);
	} else {
		time_t now = time(NULL);
		struct tm tm;

		localtime_r(&now, &tm);
		used = strftime(line, sizeof(line), "%H:%M:%S ", &tm);
	}
	used += (size_t)snprintf(line + used, sizeof(line) - used, "level=%s msg=\"%s\"",
				 level_name(level), msg);
	if (fmt && used < sizeof(line) - 1) {
		int n;

		line[used++] = ' ';
		va_start(ap, fmt);
		n = vsnprintf(line + used, sizeof(line) - used, fmt, ap);
		va_end(ap);
		used += n > 0 ? (size_t)n : 0;
	}
	if (used > sizeof(line) - 1)
		used = sizeof(line) - 1;
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* nowhere left to complain to */
}
