/* SPDX-License-Identifier: MIT */
/* daemon/model/chat_form.c: the forms of chat_form.h. */
#include "model/chat_form.h"

#include <stddef.h>

const struct chat_form chat_chatml = {
	.name = "ChatML",
	.needs = { "<|im_start|>", "<|im_end|>" },
	.begin = "",
	.system = { "<|im_start|>", "system\n", "", "<|im_end|>\n" },
	.user = { "<|im_start|>", "user\n", "", "<|im_end|>\n" },
	.answer = "<|im_start|>assistant\n",
	.by_template = true,
};

const struct chat_form chat_glm = {
	.name = "GLM",
	.needs = { "[gMASK]", "<|user|>", "<|assistant|>" },
	.begin = "[gMASK]<sop>",
	.system = { "<|system|>", "\n", "", "" },
	.user = { "<|user|>", "\n", "", "" },
	.answer = "<|assistant|>",
	.thought = "",
	.no_thought = "\n<think></think>",
	.no_think_user = "/nothink",
};

const struct chat_form chat_minimax = {
	.name = "MiniMax-M2",
	.needs = { "]~!b[", "]~b]", "[e~[" },
	.begin = "]~!b[",
	.system = { "]~b]", "system\n", "", "[e~[\n" },
	.user = { "]~b]", "user\n", "", "[e~[\n" },
	.answer = "]~b]ai\n",
	.thought = "<think>\n",
};

const struct chat_form chat_gemma = {
	.name = "Gemma 4",
	.needs = { "<|turn>", "<turn|>" },
	.begin = "",
	.system = { "<|turn>", "system\n", "", "<turn|>\n" },
	.user = { "<|turn>", "user\n", "", "<turn|>\n" },
	.answer = "<|turn>model\n",
	.trims = true,
	.thought = "",
	.no_thought = "<|channel>thought\n<channel|>",
	.think_system = "<|think|>\n",
};

/* The published template adds the day's date, which is nothing that a model file can say. */
const struct chat_form chat_harmony = {
	.name = "Harmony",
	.needs = { "<|start|>", "<|message|>", "<|end|>" },
	.begin = "<|start|>system<|message|>You are ChatGPT, a large language model trained by "
		 "OpenAI.\nKnowledge cutoff: 2024-06\n\nReasoning: medium\n\n# Valid channels: "
		 "analysis, commentary, final. Channel must be included for every message.<|end|>",
	.system = { "<|start|>developer<|message|>", "# Instructions\n\n", "\n\n", "<|end|>" },
	.user = { "<|start|>user<|message|>", "", "", "<|end|>" },
	.answer = "<|start|>assistant",
};

const struct chat_form chat_deepseek = {
	.name = "DeepSeek",
	.needs = { "<｜User｜>", "<｜Assistant｜>" },
	.begin = "",
	.system = { "", "", "", "" },
	.user = { "<｜User｜>", "", "", "" },
	.answer = "<｜Assistant｜>",
	.by_template = true,
};

const struct chat_form chat_kimi = {
	.name = "Kimi",
	.needs = { "<|im_user|>", "<|im_middle|>", "<|im_end|>" },
	.begin = "",
	.system = { "<|im_system|>system<|im_middle|>", "", "", "<|im_end|>" },
	.user = { "<|im_user|>user<|im_middle|>", "", "", "<|im_end|>" },
	.answer = "<|im_assistant|>assistant<|im_middle|>",
};
