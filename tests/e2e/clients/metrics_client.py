# SPDX-License-Identifier: MIT
"""The metrics by prometheus-client's own parser. usage: metrics_client.py URL"""
import sys
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

text = urllib.request.urlopen(sys.argv[1] + "/metrics").read().decode()
families = {f.name: f for f in text_string_to_metric_families(text)}
assert families["sluice_up"].samples[0].value == 1 and families["sluice_up"].type == "gauge"
for name in ("sluice_tokens_generated", "sluice_expert_hits", "sluice_disk_read_bytes", "sluice_http_requests"):
    assert families[name].type == "counter" and families[name].samples[0].name == name + "_total", name
for name in ("sluice_queue_seconds", "sluice_first_token_seconds", "sluice_inter_token_seconds", "sluice_request_seconds"):
    f = families[name]
    buckets = [s.value for s in f.samples if s.name == name + "_bucket"]
    count = next(s.value for s in f.samples if s.name == name + "_count")
    assert f.type == "histogram" and buckets == sorted(buckets) and buckets[-1] == count and len(buckets) == 18, name
assert all(f.documentation for f in families.values())
assert not any("expert" in s.labels for f in families.values() for s in f.samples)
print("all as expected")
