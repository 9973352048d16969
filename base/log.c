/* SPDX-License-Identifier: MIT */
/* base/log.c: see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/logfmt.h"

#define LINE_BYTES 4096 /* PIPE_BUF: one write of so much does not mix with others' */

static _Atomic enum log_level max_level = LOG_INF;
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

bool log_in_journal(void)
{
	return to_journal;
}

/* "2026-11-29T14:03:25.042+01:00" */
static void put_time(struct logfmt *l)
{
	char day[32] = "", zone[8] = "+0000";
	struct timespec now;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%z", &tm); /* +0100 */
	logfmt_printf(l, "time=%s.%03ld%.3s:%s ", day, now.tv_nsec / 1000000, zone, zone + 3);
}

void log_line(enum log_level level, const char *msg, const char *fmt, ...)
{
	char line[LINE_BYTES];
	struct logfmt l;
	size_t used;
	va_list ap;

	if (level > max_level)
		return;
	logfmt_init(&l, line, sizeof(line) - 1);
	if (to_journal)
		logfmt_printf(&l, "<%d>", level);
	else
		put_time(&l);
	logfmt_printf(&l, "level=%s msg=", level_name(level));
	logfmt_value(&l, msg);
	if (fmt) {
		logfmt_printf(&l, " ");
		va_start(ap, fmt);
		logfmt_vprintf(&l, fmt, ap);
		va_end(ap);
	}
	used = logfmt_end(&l);
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* nowhere left to complain to */
}
