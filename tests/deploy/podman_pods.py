"""Takes one component out of a rendered installation as `podman play kube` plays it: podman_pods.py COMPONENT IMAGE < RENDERED.

podman knows Deployments and config maps: a StatefulSet becomes a Deployment, of one pod. Services, budgets and network
policies are what a cluster makes real.
"""
import sys

import yaml

component, image = sys.argv[1:]
pods = []
for each in filter(None, yaml.safe_load_all(sys.stdin)):
    if each["kind"] == "ConfigMap":
        pods.append(each)
    elif each["metadata"].get("labels", {}).get("app.kubernetes.io/component") == component and "template" in each["spec"]:
        each["kind"] = "Deployment"
        each["spec"].pop("serviceName", None)
        each["spec"]["replicas"] = 1
        each["spec"]["template"]["spec"]["containers"][0]["image"] = image
        pods.append(each)
print(yaml.safe_dump_all(pods))
