# SPDX-License-Identifier: MIT
"""Description: make check-layers finds violations of every kind, each planted alone into the real tree."""
import os
import sys

import pytest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
sys.path.insert(0, os.path.join(ROOT, 'scripts'))
import check_layers  # noqa: E402

FILES = check_layers.sources(ROOT)


def findings(path, text):
    return check_layers.Check(ROOT, FILES, {path: text}).run()


def test_the_tree_holds():
    assert check_layers.Check(ROOT, FILES).run() == []


PLANTED = {
    'store asks policy': ('daemon/store/x.c', '#include "policy/policy.h"\n'),
    'policy looks at the model': ('daemon/policy/x.c', '#include "model/model.h"\n'),
    'policy looks at the store': ('daemon/policy/x.h', '#include "store/residency.h"\n'),
    'kernels know files': ('kernels/cpu/x.c', '#include <fcntl.h>\n'),
    'kernels know the engine': ('kernels/x.c', '#include "engine/step.h"\n'),
    'the model knows telemetry': ('daemon/model/x.c', '#include "telemetry/telemetry.h"\n'),
    'telemetry knows the engine': ('daemon/telemetry/x.c', '#include "engine/engine.h"\n'),
    'the engine knows the server': ('daemon/engine/x.c', '#include "serve/serve.h"\n'),
    'a tool opens the engine': ('tools/x.c', '#include "engine/seq.h"\n'),
    'a tool opens the server': ('tools/x.c', '#include "serve/options.h"\n'),
    'base knows the model': ('base/x.c', '#include "daemon/model/model.h"\n'),
    'the library knows the daemon': ('uapi/x.c', '#include "base/err.h"\n'),
    'the module knows the protocol': ('kmod/x.c', '#include "uapi/sluice_proto.h"\n'),
    'the module knows base': ('kmod/x.c', '#include "base/num.h"\n'),
    'the module uses the C library': ('kmod/x.c', '#include <stdlib.h>\n'),
    'CUDA outside its rooms': ('daemon/engine/x.c', '#include <cuda_runtime.h>\n'),
    'CUDA kernels know the model': ('kernels/cuda/x.cu', '#include "model/model.h"\n'),
    'CUDA headers know the store': ('kernels/cuda/x.cuh', '#include "daemon/store/arena.h"\n'),
    'the CPU kernels know CUDA': ('kernels/cpu/x.c', '#include "kernels/cuda/ops.h"\n'),
    'angle brackets hide a room': ('daemon/store/x.c', '#include <policy/policy.h>\n'),
    'angle brackets from the root': ('daemon/policy/x.c', '#include <daemon/engine/step.h>\n'),
    'a relative path': ('daemon/store/x.c', '#include "../policy/policy.h"\n'),
    'a macro names the header': ('daemon/store/x.c', '#define H "policy/policy.h"\n#include H\n'),
    'spaces and a continued line': ('daemon/store/x.c', '  #  include \\\n "policy/policy.h"\n'),
    'include_next': ('daemon/store/x.c', '#include_next "policy/policy.h"\n'),
    'a source file is included': ('daemon/store/x.c', '#include "policy/lru.c"\n'),
    'a folder inside a room': ('daemon/store/deep/x.c', '#include "engine/engine.h"\n'),
    'an extern function': ('daemon/store/x.c', 'extern int policy_create(const char *spec);\n'),
    'an extern object': ('daemon/store/x.c', 'extern const struct policy_ops *policy_table[];\n'),
    'a bare prototype': ('daemon/store/x.c', 'int policy_create(const char *spec,\n\t\tint n);\n'),
    'extern "C" in a .cu': ('kernels/cuda/x.cu', 'extern "C" int engine_start(struct engine *e);\n'),
    'io_uring beside the reader': ('daemon/engine/x.c', '#include <liburing.h>\n'),
    'the service manager in the engine': ('daemon/engine/x.c', '#include <systemd/sd-daemon.h>\n'),
    'an event loop in the store': ('daemon/store/x.c', '#include <sys/epoll.h>\n'),
    'no such header': ('daemon/store/x.c', '#include "store/nowhere.h"\n'),
    'no room': ('daemon/attic/x.c', 'int x;\n'),
    'a test helper in the product': ('daemon/engine/x.c', '#include "tests/unit/engine/mixer_rig.h"\n'),
    'headers that include each other': ('base/err.h', '#include "base/opts.h"\n'),
}


@pytest.mark.parametrize('name', PLANTED)
def test_planted(name):
    path, text = PLANTED[name]
    found = findings(path, text)
    assert found and any(line.startswith(path + ':') or 'each other' in line for line in found), found


HARMLESS = {
    'a comment': ('daemon/store/x.c', '/*\n#include "policy/policy.h"\n*/\n// int f(void);\n'),
    'a string': ('daemon/store/x.c', 'static const char *s =\n"#include \\"policy/policy.h\\"";\n'),
    'its own room': ('daemon/store/x.c', '#include "store/arena.h"\n#include "arena.h"\n'),
    'statics and calls': ('daemon/store/x.c',
                          'static int f(int a);\nstatic int f(int a)\n{\n\tg(a);\n\treturn h(a);\n}\n'),
    'a definition': ('daemon/store/x.c', 'int arena_x(int a)\n{\n\treturn a;\n}\n'),
    'a pointer type': ('daemon/store/x.c', 'typedef int (*fn)(int a);\n'),
}


@pytest.mark.parametrize('name', HARMLESS)
def test_harmless(name):
    path, text = HARMLESS[name]
    assert findings(path, text) == []
