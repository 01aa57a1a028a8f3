"""Takes one component out of a rendered installation as `podman play kube` plays it: podman_pods.py COMPONENT IMAGE [HOST].

podman knows Deployments and config maps: a StatefulSet becomes a Deployment of one pod, and a LeaderWorkerSet one of the pod
of its first group that is number HOST. Services, budgets and network policies are what a cluster makes real.
"""
import sys

import yaml

component, image, *host = sys.argv[1:]
pods = []
for each in filter(None, yaml.safe_load_all(sys.stdin)):
    meta, spec = each["metadata"], each.get("spec", {})
    if each["kind"] == "ConfigMap":
        pods.append(each)
    elif meta.get("labels", {}).get("app.kubernetes.io/component") == component and each["kind"] != "Service":
        template, environment = spec.get("template"), {}
        if template is None:
            template = spec["leaderWorkerTemplate"]["workerTemplate"]
            environment = {"LWS_LEADER_ADDRESS": f"{meta['name']}-0.{meta['name']}.{meta['namespace']}",
                           "LWS_GROUP_SIZE": str(spec["leaderWorkerTemplate"]["size"]), "LWS_WORKER_INDEX": host[0]}
            meta["name"] += f"-{host[0]}"
        [container] = template["spec"]["containers"]
        container["image"] = image
        container.pop("ports")  # podman would take them on this machine.
        container["env"] = [{"name": name, "value": value} for name, value in environment.items()]
        pods.append({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
                     "spec": {"replicas": 1, "template": template, "selector": {"matchLabels": template["metadata"]["labels"]}}})
print(yaml.safe_dump_all(pods))
