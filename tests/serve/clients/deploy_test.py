#!/usr/bin/env python3
"""The manifests in deploy/ as Kubernetes reads them: deploy_test.py DEPLOY_FOLDER. Exit code 77 (skipped) without PyYAML."""

import re
import sys
from pathlib import Path

try:
    import yaml
except ModuleNotFoundError:
    print("skipped: this Python has no PyYAML (the environment 'kserve' of tests/environments.sh has it)")
    sys.exit(77)

deploy = Path(sys.argv[1])


def documents(name):
    return {d["kind"]: d for d in yaml.safe_load_all((deploy / name).read_text())}


def container_of(pod):
    assert len(pod["containers"]) == 1
    return pod["containers"][0]


def flags_of(container):
    return dict(re.fullmatch(r"--([a-z0-9_-]+)=(.*)", a, re.S).groups() for a in container["args"])


def probes_of(container):
    return [probe["httpGet"] for key, probe in container.items() if key.endswith("Probe")]


def kubernetes():
    all_ = documents("kubernetes.yaml")
    assert set(all_) == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"}, set(all_)
    spec = all_["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    pod = spec["template"]["spec"]
    container = container_of(pod)
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports == {"http": 8000, "grpc": 8001, "tfs-grpc": 8500, "tfs-http": 8501}, ports  # the server's own
    for selector in (spec["selector"], all_["PodDisruptionBudget"]["spec"]["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert all_["Service"]["spec"]["selector"].items() <= labels.items()
    for port in all_["Service"]["spec"]["ports"]:
        assert port["port"] == ports[port["targetPort"]], port
    assert {p["path"] for p in probes_of(container)} == {"/healthz", "/readyz"}
    assert all(p["port"] in ports for p in probes_of(container))
    # The file that the server is told to read is where the ConfigMap is mounted.
    config = Path(flags_of(container)["config"])
    mounts = {m["name"]: m for m in container["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["volumes"]}
    assert set(mounts) == set(volumes)
    assert mounts["config"]["mountPath"] == str(config.parent)
    assert volumes["config"]["configMap"]["name"] == all_["ConfigMap"]["metadata"]["name"]
    assert config.name in all_["ConfigMap"]["data"]
    assert "base_path: \"" + mounts["models"]["mountPath"] in all_["ConfigMap"]["data"][config.name]
    # Kubernetes waits longer than the server drains.
    flags = flags_of(container)
    takes = 5 + (int(flags["drain-grace-ms"]) + int(flags["drain-timeout-ms"])) / 1000
    assert pod["terminationGracePeriodSeconds"] > takes, takes


def kserve():
    runtime = documents("kserve-runtime.yaml")["ServingRuntime"]["spec"]
    container = container_of(runtime)
    flags = flags_of(container)
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert str(ports["http1"]) == flags["http-port"]
    assert all(p["port"] == ports["http1"] for p in probes_of(container))
    # KServe calls a runtime over gRPC on its port h2c: it may say that it speaks it only if it has one.
    assert ("grpc-v2" in runtime["protocolVersions"]) == ("h2c" in ports), runtime["protocolVersions"]
    assert "v2" in runtime["protocolVersions"]


kubernetes()
kserve()
print("deploy/ is as it should be")
