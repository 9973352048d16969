# SPDX-License-Identifier: MIT
"""mini-swe-agent: a run of two steps; the model of the tests knows no commands, so what is looked at is that each step is asked
and answered, and that the run ends by its own limit."""
import os
import sys

os.environ["MSWEA_COST_TRACKING"] = "ignore_errors"
os.environ["MSWEA_SILENT_STARTUP"] = "1"
from minisweagent.agents.default import DefaultAgent  # noqa: E402
from minisweagent.environments.local import LocalEnvironment  # noqa: E402
from minisweagent.models.litellm_model import LitellmModel  # noqa: E402
from minisweagent.models.litellm_textbased_model import LitellmTextbasedModel  # noqa: E402

KW = {"api_base": sys.argv[1] + "/v1", "api_key": "none", "temperature": 0, "max_tokens": 30}
for kind in (LitellmTextbasedModel, LitellmModel):
    model = kind(model_name="openai/local", model_kwargs=KW, cost_tracking="ignore_errors")
    agent = DefaultAgent(model, LocalEnvironment(), system_template="You answer.", instance_template="{{ task }}", step_limit=2)
    end = agent.run("What is the capital of France?")
    assert agent.n_calls >= 2, (agent.n_calls, end)
    said = [m.get("content") for m in agent.messages if m.get("role") == "assistant"]
    print(kind.__name__, agent.n_calls, end.get("exit_status"), said[:1])
print("all as expected")
