/* SPDX-License-Identifier: MIT */
/*
 * tools/chat_line.c: see chat.h. On a terminal libedit edits: its history lies in the user's state
 * directory, a text that is pasted stays one, Ctrl-C gives a line up. Elsewhere lines are read as they
 * come. libedit puts the terminal back before it hands on a signal.
 */
#include <errno.h>
#include <histedit.h>
#include <locale.h>
#include <langinfo.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/chat.h"

#define HISTORY_LINES 1000
#define MESSAGE_MAX   (16u << 20)
#define PASTE_END     "\033[201~"

struct line_reader {
	EditLine *el; /* NULL: no terminal */
	History *history;
	char path[4096]; /* of the history; empty: it is not kept */
	bool going_on;	 /* a message's second line and later */
	bool cancelled;
};

static char *prompt(EditLine *el)
{
	static char first[] = "> ", more[] = ". ";
	struct line_reader *l;

	el_get(el, EL_CLIENTDATA, &l);
	return l->going_on ? more : first;
}

/* Ctrl-C: the line goes. */
static unsigned char give_up(EditLine *el, int key)
{
	const LineInfo *line = el_line(el);
	struct line_reader *l;

	el_get(el, EL_CLIENTDATA, &l);
	el_cursor(el, (int)(line->lastchar - line->cursor));
	fputs("^C\n", stdout);
	fflush(stdout);
	el_deletestr(el, (int)(line->lastchar - line->buffer));
	l->cancelled = true;
	return CC_NEWLINE;
}

static unsigned char suspend(EditLine *el, int key)
{
	kill(0, SIGTSTP); /* libedit's handler puts the terminal back and stops */
	return CC_REDISPLAY;
}

/* What the terminal says was pasted: its newlines are no ends. */
static unsigned char paste(EditLine *el, int key)
{
	struct bytes text = { 0 };
	size_t end = strlen(PASTE_END);
	char c;

	while (el_getc(el, &c) == 1 && text.n < MESSAGE_MAX) {
		if (bytes_put(&text, c == '\r' ? "\n" : &c, 1))
			break;
		if (text.n < end || memcmp(text.data + text.n - end, PASTE_END, end) != 0)
			continue;
		text.n -= end;
		text.data[text.n] = '\0';
		break;
	}
	for (size_t i = 0; i < text.n; i++)
		if ((unsigned char)text.data[i] < ' ' && text.data[i] != '\n')
			text.data[i] = ' ';
	if (text.n)
		el_insertstr(el, text.data);
	bytes_done(&text);
	return CC_REFRESH;
}

/* $XDG_STATE_HOME or ~/.local/state, and "sluice/chat_history" in it; its directories are made. */
static void find_history(char *path, size_t room)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n = state && *state == '/' ? snprintf(path, room, "%s/sluice/chat_history", state)
		: home && *home == '/'
			? snprintf(path, room, "%s/.local/state/sluice/chat_history", home)
			: 0;

	if (n <= 0 || (size_t)n >= room) {
		path[0] = '\0';
		return;
	}
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
}

static bool open_terminal(struct line_reader *l)
{
	HistEvent event;

	/* characters of more than one byte, whatever the environment says or leaves out */
	if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
	l->history = history_init();
	l->el = el_init("sluice", stdin, stdout, stderr);
	if (!l->history || !l->el)
		return false;
	history(l->history, &event, H_SETSIZE, HISTORY_LINES);
	history(l->history, &event, H_SETUNIQUE, 1);
	find_history(l->path, sizeof(l->path));
	if (l->path[0])
		history(l->history, &event, H_LOAD, l->path);
	el_set(l->el, EL_CLIENTDATA, l);
	el_set(l->el, EL_PROMPT, prompt);
	el_set(l->el, EL_EDITOR, "emacs");
	el_set(l->el, EL_SIGNAL, 1);
	el_set(l->el, EL_HIST, history, l->history);
	el_set(l->el, EL_ADDFN, "sluice-give-up", "gives the line up", give_up);
	el_set(l->el, EL_ADDFN, "sluice-suspend", "stops the program", suspend);
	el_set(l->el, EL_ADDFN, "sluice-paste", "takes a pasted text", paste);
	el_set(l->el, EL_BIND, "^C", "sluice-give-up", NULL);
	el_set(l->el, EL_BIND, "^Z", "sluice-suspend", NULL);
	el_set(l->el, EL_BIND, "\033[200~", "sluice-paste", NULL);
	el_set(l->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
	el_set(l->el, EL_SETTY, "-d", "-isig", NULL); /* Ctrl-C is a key while a line is edited */
	return true;
}

struct line_reader *line_open(bool terminal)
{
	struct line_reader *l = calloc(1, sizeof(*l));

	if (l && terminal && !open_terminal(l)) {
		line_close(l);
		return NULL;
	}
	return l;
}

void line_close(struct line_reader *l)
{
	HistEvent event;
	mode_t mask;

	if (!l)
		return;
	if (l->history && l->path[0]) {
		mask = umask(0077); /* prompts are their owner's */
		history(l->history, &event, H_SAVE, l->path);
		umask(mask);
	}
	if (l->el)
		el_end(l->el);
	if (l->history)
		history_end(l->history);
	free(l);
}

/* One line into @text, without its end. 1, or 0 at the end, -EINTR after Ctrl-C, -ENOMEM. */
static int edit(struct line_reader *l, struct bytes *text)
{
	const char *line;
	int n = 0;

	l->cancelled = false;
	fputs("\033[?2004h", stdout); /* the terminal marks what is pasted */
	fflush(stdout);
	do
		line = el_gets(l->el, &n);
	while (!line && n < 0 && errno == EINTR);
	fputs("\033[?2004l", stdout);
	if (!l->cancelled && (!line || n <= 0))
		fputc('\n', stdout); /* what comes next does not stand behind the prompt */
	fflush(stdout);
	if (l->cancelled)
		return -EINTR;
	if (!line || n <= 0)
		return 0;
	if (line[n - 1] == '\n')
		n--;
	return bytes_put(text, line, (size_t)n) ? -ENOMEM : 1;
}

static int plain(struct bytes *text)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n = getline(&line, &room, stdin);
	int rc = n < 0 ? 0 : 1;

	if (n > 0 && line[n - 1] == '\n')
		n--;
	if (n > 0 && bytes_put(text, line, (size_t)n))
		rc = -ENOMEM;
	free(line);
	return rc;
}

#define QUOTES "\"\"\""

/* Is the message in @text whole? Takes away what only says so. @quoted: it began with three quotes. */
static bool is_whole(struct bytes *text, bool *quoted)
{
	size_t end = strlen(QUOTES);

	if (!*quoted && text->n >= end && !memcmp(text->data, QUOTES, end)) {
		*quoted = true;
		bytes_drop(text, end);
	}
	if (*quoted) {
		if (text->n < end || memcmp(text->data + text->n - end, QUOTES, end) != 0)
			return false;
		text->data[text->n -= end] = '\0';
		return true;
	}
	if (!text->n || text->data[text->n - 1] != '\\')
		return true;
	text->data[--text->n] = '\0';
	return false;
}

char *line_read(struct line_reader *l, bool *ret_cancelled)
{
	struct bytes text = { 0 };
	bool quoted = false, any = false;
	HistEvent event;
	int rc;

	*ret_cancelled = false;
	l->going_on = false;
	do {
		if (any && bytes_put(&text, "\n", 1))
			break;
		rc = l->el ? edit(l, &text) : plain(&text);
		if (rc <= 0) {
			*ret_cancelled = rc == -EINTR;
			if (!any || rc == -EINTR) {
				bytes_done(&text);
				return NULL;
			}
			break; /* the end ends the message too */
		}
		any = l->going_on = true;
	} while (!is_whole(&text, &quoted) && text.n < MESSAGE_MAX);
	if (!text.data)
		return strdup("");
	if (quoted && text.n &&
	    text.data[text.n - 1] == '\n') /* the quotes stood on lines of their own */
		text.data[--text.n] = '\0';
	if (quoted && text.data[0] == '\n')
		bytes_drop(&text, 1);
	if (l->history && text.n)
		history(l->history, &event, H_ENTER, text.data);
	return text.data;
}
