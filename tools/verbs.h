/* SPDX-License-Identifier: MIT */
/*
 * tools/verbs.h: the verbs of the sluice command, one per file.
 *
 * A verb gets its own arguments, argv[0] being its name, prints what it has to say and returns the
 * exit status: 0 ok, 1 failed, 2 usage, 3 daemon not reachable, 130 interrupted. main() flushes
 * stdout and says what failed there. Verbs that talk to the daemon do so through uapi/sluice.h; the
 * others read files. The table is in main.c. One thread.
 */
#ifndef SLUICE_TOOLS_VERBS_H
#define SLUICE_TOOLS_VERBS_H

enum exit_status {
	EXIT_OK,
	EXIT_FAILED,
	EXIT_USAGE,
	EXIT_UNREACHABLE,
	EXIT_INTERRUPTED = 130, /* as shells number Ctrl-C */
};

int verb_generate(int argc, char **argv);
int verb_status(int argc, char **argv);
int verb_heat(int argc, char **argv);
int verb_slots(int argc, char **argv);
int verb_top(int argc, char **argv);
int verb_chat(int argc, char **argv);
int verb_batch(int argc, char **argv);
int verb_eval(int argc, char **argv);
int verb_bench(int argc, char **argv);
int verb_doctor(int argc, char **argv);
int verb_telemetry(int argc, char **argv);
int verb_plan(int argc, char **argv);
int verb_inspect(int argc, char **argv);
int verb_metrics(int argc, char **argv);
int verb_template(int argc, char **argv);
int verb_parse(int argc, char **argv);
int verb_grammar(int argc, char **argv);
int verb_tokenize(int argc, char **argv);
int verb_trace(int argc, char **argv);

#endif
