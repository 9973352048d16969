# SPDX-License-Identifier: MIT
"""Faults of the device's code, one at a time: what make test-device must find by other bits or by a failed request.

A fault is a change of one place of a source file. The file is compiled with it as the daemon's own was, and linked in front
of the room's archive. The text that is replaced stands exactly once in its file: a change there breaks the test, not the fault.
"""
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]

# name: (file, what stands there, what is put in its place, what it is)
FAULTS = {
    "missing-wait": ("daemon/engine/vram.c", "rc = device_fills_done(v->c.device, &n, NULL);", "n = v->issued;",
                     "an expert is in the table before its fill has ended"),
    "early-overwrite": ("daemon/engine/vram.c", "if (move.victim != POLICY_NONE)\n\t\tleave(v, move.victim);",
                        """if (move.victim != POLICY_NONE) {
		uint32_t kept = v->table[move.victim];
		bool changed = v->changed;

		leave(v, move.victim);
		v->table[move.victim] = kept;
		v->changed = changed;
	}""", "a slot is filled while the table that the device has still names who was in it"),
    "stale-table": ("daemon/engine/vram.c", "rc = device_publish(v->c.device, err);", "rc = 0;",
                    "the device goes by an older table than the host"),
    "wrong-piece": ("daemon/engine/vram.c", "ret->piece[ret->n].at = slot.at[k] + first * row_bytes;",
                    "ret->piece[ret->n].at = slot.at[k == EXPERT_UP ? EXPERT_DOWN : k] + first * row_bytes;",
                    "a piece lands where another belongs"),
    "no-word": ("daemon/device/cuda_step.c", "rc = wait_word(d, err);", "rc = 0;",
                "the host reads a layer's routes before they are there"),
    "rows-unread": ("daemon/device/cuda_experts.c", "r.slots = d->slot_table + (size_t)layer * m->n_expert;",
                    "r.slots = NULL;", "what lies in slots is not taken from there"),
    "old-graph": ("daemon/device/cuda_graph.c", "g = &d->layers[layer].graph[d->n_tokens - 1];",
                  "g = &d->layers[layer ? layer - 1 : 0].graph[d->n_tokens - 1];", "a layer is launched as another was recorded"),
    "sent-unread": ("daemon/engine/block/moe.c", "*r->device_rc = device_sent(r->device, r->device_err);", "(void)r;",
                    "the host's copy of an expert goes before it was read"),
    "ring-early": ("daemon/device/cuda_prompt.c", "const uint32_t at = p->n_sent % RING;",
                   "const uint32_t at = p->n_sent % 2;", "a slot of the ring is overwritten before its group was multiplied"),
    "group-early": ("daemon/device/cuda_prompt.c", "if (!rc && p->n_sent_group)", "if (0)",
                    "a group is multiplied before its experts have landed"),
}
OF_PROMPTS = ("sent-unread", "ring-early", "group-early")


def build(name, into, build_dir):
    """The daemon over the fake runtime with the fault @name, in @into."""
    path, old, new, _ = FAULTS[name]
    text = (ROOT / path).read_text()
    assert text.count(old) == 1, f"{name}: {path} has the text {text.count(old)} times"
    source = pathlib.Path(into) / pathlib.Path(path).name
    source.write_text(text.replace(old, new))
    program = pathlib.Path(into) / "sluiced"
    subprocess.run(["make", "--no-print-directory", "-s", f"O={build_dir}/emu", "DEVICE_CUDA=emu", f"FAULT={source}",
                    f"FAULT_FROM={path}", f"FAULT_TO={program}", "fault-program"], cwd=ROOT, check=True, timeout=300)
    return program
