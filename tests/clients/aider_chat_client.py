# SPDX-License-Identifier: MIT
"""aider-chat: one message in an empty folder, streamed and whole; it must end well and say what it sent and got."""
import os
import pathlib
import subprocess
import sys
import tempfile

for stream in ("--stream", "--no-stream"):
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "HOME": home, "OPENAI_API_BASE": sys.argv[1] + "/v1", "OPENAI_API_KEY": "none"}
        p = subprocess.run([pathlib.Path(sys.executable).parent / "aider", "--model", "openai/local", "--no-git", "--yes-always",
                            "--no-show-model-warnings", "--no-check-update", "--map-tokens", "0", "--no-pretty",
                            "--edit-format", "ask", stream, "--message", "What is the capital of France?"],
                           cwd=home, env=env, capture_output=True, text=True, timeout=300)
    assert p.returncode == 0 and "Tokens:" in p.stdout, p.stdout + p.stderr
    print(p.stdout.strip().splitlines()[-1])
print("all as expected")
