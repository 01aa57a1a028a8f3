"""Makes of a rendered installation what `podman play kube` plays: podman_pods.py IMAGE < RENDERED > PODS.

podman knows Deployments and config maps: a StatefulSet becomes a Deployment of one pod; services, budgets and network
policies, which a cluster makes real, are left out. The pod's name stands for the headless service's.
"""
import sys

import yaml

image, pods, workers = sys.argv[1], [], ""
objects = [each for each in yaml.safe_load_all(sys.stdin) if each]
for each in objects:
    if each["kind"] == "ConfigMap":
        pods.append(each)
    elif each["kind"] in ("Deployment", "StatefulSet"):
        each["kind"] = "Deployment"
        each["spec"].pop("serviceName", None)
        each["spec"]["replicas"] = 1
        for container in each["spec"]["template"]["spec"]["containers"]:
            container["image"] = image
            if container["command"] == ["conclave-router"]:
                container["args"] += ["--set", "workers.dns=conclave-worker-pod:9101"]
        pods.append(each)
print(yaml.safe_dump_all(pods))
