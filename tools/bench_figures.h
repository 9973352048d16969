/* SPDX-License-Identifier: MIT */
/* tools/bench_figures.h: what a row of `sluice bench` amounts to, for every form of printing. Pure. */
#ifndef SLUICE_TOOLS_BENCH_FIGURES_H
#define SLUICE_TOOLS_BENCH_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/bench.h"

/* general.file_type of GGUF in llama-bench's words; "": it has none that are known. */
const char *bench_file_type(uint32_t id);
/* As llama-bench names it: a device that launches kernels computes all but some experts. */
const char *bench_backend(const struct bench_row *r);

/* Tokens of one repetition; tokens per second of repetition @i. */
uint32_t bench_tokens(const struct bench_row *r);
double bench_sample_ts(const struct bench_row *r, uint32_t i);
/* Of tokens per second over the repetitions, or of nanoseconds; deviation of the sample (n - 1), 0 for one. */
double bench_mean(const struct bench_row *r, bool ns);
double bench_deviation(const struct bench_row *r, bool ns);

/* 1 where no expert was used; bytes read for a token; 10^9 bytes per second of the reader. */
double bench_hit_ratio(const struct bench_row *r);
double bench_miss_bytes(const struct bench_row *r);
double bench_read_gbs(const struct bench_row *r);
/*
 * What a token in the middle of a test of generation reads of the sequence's own memory: keys and
 * values of all positions before it, and recurrent state. (Layers that look at a window read less.)
 */
double bench_sequence_bytes(const struct bench_report *b, const struct bench_row *r);
/* Read from memory per second while generating, 10^9 bytes: every token reads all its weights once. */
double bench_memory_gbs(const struct bench_report *b, const struct bench_row *r);
/*
 * 10^9 multiply-adds with weights per second while a prompt is read: of a token's bytes as many weights as
 * they hold on an average of the file, without the output matrix, which few tokens meet.
 */
double bench_gmadds(const struct bench_report *b, const struct bench_row *r);
/* Of a peak; 0 where that is not known. */
double bench_share(double value, double peak);
/* Speed with drafts over that without, the median of the repetitions, each with its own neighbour. */
double bench_reached(const struct bench_row *r);

#endif
