"""What the files of deploy/ say, as objects: Kubernetes' as kustomize would gather them, without its patches."""
import itertools
import pathlib
import re

import yaml

PARTS = {"server": "grpc", "health": "health", "metrics": "metrics"}  # A section with `listen`, and its port's name.


def documents(path):
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def gather(folder, seen=None):
    """The objects of a kustomization and of all that it names; its config maps with their files' text."""
    seen = set() if seen is None else seen
    if folder.resolve() in seen:
        return []
    seen.add(folder.resolve())
    [kustomization] = documents(folder / "kustomization.yaml")
    objects = []
    for name in kustomization.get("resources", []) + kustomization.get("components", []):
        path = folder / name
        objects += gather(path, seen) if path.is_dir() else documents(path)
    for generator in kustomization.get("configMapGenerator", []):
        files = {pathlib.PurePath(name).name: (folder / name).read_text() for name in generator["files"]}
        objects.append({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": generator["name"]}, "data": files})
    return objects


def name_of(thing):
    return f"{thing['kind']}/{thing['metadata']['name']}"


def seconds(text):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "min": 60}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(ms|min|s|m|h)", str(text)))


def cpus(text):
    text = str(text)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


class Workload:
    """Pods of one template."""

    def __init__(self, thing):
        self.name, self.kind, spec = name_of(thing), thing["kind"], thing["spec"]
        self.object = thing
        if self.kind == "LeaderWorkerSet":
            self.size = spec["leaderWorkerTemplate"]["size"]
            template = spec["leaderWorkerTemplate"]["workerTemplate"]
        else:
            self.size, template = 1, spec["template"]
        self.labels = template["metadata"]["labels"]
        self.spec = template["spec"]
        self.container = self.spec["containers"][0]
        self.ports = {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}

    def label_sets(self):
        """What labels its pods have: a LeaderWorkerSet adds who each of them is."""
        if self.kind != "LeaderWorkerSet":
            return [self.labels]
        prefix = "leaderworkerset.sigs.k8s.io/"
        return [{**self.labels, prefix + "name": self.object["metadata"]["name"], prefix + "worker-index": str(index)}
                for index in range(self.size)]

    def selected(self, selector):
        """How many pods of a group `selector` takes."""
        return sum(all(labels.get(key) == value for key, value in selector.items()) for labels in self.label_sets())


WORKLOADS = ("Deployment", "StatefulSet", "LeaderWorkerSet")


class Checker:
    """Complaints about the objects of one installation. `readme` documents what has to be there from elsewhere."""

    def __init__(self, objects, readme=""):
        self.objects, self.readme, self.found = objects, readme, []
        self.workloads = [Workload(each) for each in objects if each["kind"] in WORKLOADS]

    def run(self):
        self.objects_are_one_installation()
        for each in self.workloads:
            self.volumes(each)
            self.ports_and_probes(each)
            self.config(each)
            self.hardening(each)
        for each in self.objects:
            {"Service": self.service, "PodDisruptionBudget": self.budget, "NetworkPolicy": self.policy,
             "StatefulSet": self.stateful_set, "LeaderWorkerSet": self.leader_worker_set}.get(each["kind"], lambda _: None)(each)
        return self.found

    def say(self, who, what):
        self.found.append(f"{who}: {what}")

    def of_kind(self, kind):
        return {each["metadata"]["name"]: each for each in self.objects if each["kind"] == kind}

    def objects_are_one_installation(self):
        for name, group in itertools.groupby(sorted(map(name_of, self.objects))):
            if len(list(group)) > 1:
                self.say(name, "is there twice")
        for namespace in {each["metadata"].get("namespace", "") for each in self.objects if each["kind"] != "Namespace"}:
            if namespace and namespace not in self.of_kind("Namespace"):
                self.say(namespace, "is no namespace of this installation")

    def volumes(self, work):
        volumes = {volume["name"]: volume for volume in work.spec.get("volumes", [])}
        mounts = {mount["name"] for mount in work.container.get("volumeMounts", [])}
        for name in mounts ^ set(volumes):
            self.say(work.name, f"volume {name} is " + ("mounted nowhere" if name in volumes else "mounted, and is not there"))
        for volume in volumes.values():
            if "configMap" in volume and volume["configMap"]["name"] not in self.of_kind("ConfigMap"):
                self.say(work.name, f"there is no config map {volume['configMap']['name']}")
            for kind, key in [("secret", "secretName"), ("persistentVolumeClaim", "claimName")]:
                name = volume.get(kind, {}).get(key)
                if name and f"`{name}`" not in self.readme:
                    self.say(work.name, f"nobody says how {kind} {name} is made")
        account = work.spec.get("serviceAccountName")
        if account not in self.of_kind("ServiceAccount"):
            self.say(work.name, f"there is no service account {account}")

    def config_of(self, work):
        """The config that the container is started with, as a mapping; None when it is a secret."""
        arguments = work.container.get("args", [])
        path = pathlib.PurePosixPath(arguments[arguments.index("--config") + 1])
        mount = next((m for m in work.container["volumeMounts"] if m["mountPath"] == str(path.parent)), None)
        volume = next((v for v in work.spec.get("volumes", []) if mount and v["name"] == mount["name"]), None)
        if volume is None:
            self.say(work.name, f"{path} is on no volume")
            return None
        if "configMap" not in volume:
            return None
        data = self.of_kind("ConfigMap").get(volume["configMap"]["name"], {}).get("data", {})
        if path.name not in data:
            self.say(work.name, f"no config map has {path.name}")
            return None
        return yaml.safe_load(data[path.name])

    def ports_and_probes(self, work):
        kinds = ["livenessProbe", "readinessProbe"] + (["startupProbe"] if work.container["command"] == ["conclave-worker"] else [])
        for kind in kinds:
            probe = work.container.get(kind, {}).get("grpc", {})
            if probe.get("port") != work.ports.get("health"):
                self.say(work.name, f"{kind} asks port {probe.get('port')}; health is {work.ports.get('health')}")
            wanted = "readiness" if kind == "readinessProbe" else "liveness"
            if probe.get("service") != wanted:
                self.say(work.name, f"{kind} asks for {probe.get('service')}, not {wanted}")

    def config(self, work):
        config = self.config_of(work)
        if config is None:
            return
        for section, port in PARTS.items():
            listen = config.get(section, {}).get("listen", "127.0.0.1:0")
            host, number = listen.rsplit(":", 1)
            if host.startswith("127.") or int(number) != work.ports.get(port):
                self.say(work.name, f"{section}.listen is {listen}; the container's port {port} is {work.ports.get(port)}")
        drain = config.get("drain", {})
        longest = seconds(config.get("drain_timeout", "0s")) + seconds(drain.get("delay", "0s")) + seconds(drain.get("timeout", "0s"))
        if longest == 0 or work.spec.get("terminationGracePeriodSeconds", 30) != longest + 20:
            self.say(work.name, f"drains for {longest:.0f} s, and is killed after {work.spec.get('terminationGracePeriodSeconds')} s")
        dns = config.get("workers", {}).get("dns")
        if dns is not None:
            host, port = dns.rsplit(":", 1)
            service = self.of_kind("Service").get(host)
            if service is None or service["spec"].get("clusterIP") != "None":
                self.say(work.name, f"workers.dns: {host} is no headless service")
            elif int(port) not in [each["port"] for each in service["spec"]["ports"]]:
                self.say(work.name, f"workers.dns: service {host} has no port {port}")
        self.group(work, config)

    def group(self, work, config):
        group = config.get("group")
        if group is None:
            return
        ranks, resources = group.get("tensor_parallel", 2), work.container["resources"]
        if group.get("device") == "cuda":
            gpus = int(resources.get("limits", {}).get("nvidia.com/gpu", 0)) * work.size
            if gpus != ranks:
                self.say(work.name, f"{ranks} ranks, and {gpus} GPUs")
            if not any(mount["mountPath"] == "/dev/shm" for mount in work.container["volumeMounts"]):
                self.say(work.name, "GPU ranks need a /dev/shm")
        elif cpus(resources["requests"]["cpu"]) * work.size < ranks * group.get("threads", 1):
            self.say(work.name, f"{ranks} ranks of {group.get('threads', 1)} threads, and {resources['requests']['cpu']} CPUs a pod")
        hosts = group.get("hosts", {})
        if (hosts.get("place") == "environment") != (work.kind == "LeaderWorkerSet"):
            self.say(work.name, "group.hosts.place must be environment in a LeaderWorkerSet, and nowhere else")
        if work.kind == "LeaderWorkerSet" and work.ports.get("hosts") != hosts.get("port", 9104):
            self.say(work.name, f"hosts join at {hosts.get('port', 9104)}; the container's port hosts is {work.ports.get('hosts')}")
        if ranks % work.size != 0:
            self.say(work.name, f"{ranks} ranks on {work.size} hosts")
        flights = config.get("launcher", {}).get("flight_directory")
        writable = [mount["mountPath"] for mount in work.container["volumeMounts"] if not mount.get("readOnly")]
        if flights and flights not in writable:
            self.say(work.name, f"launcher.flight_directory {flights} cannot be written")

    def hardening(self, work):
        pod, own = work.spec.get("securityContext", {}), work.container.get("securityContext", {})
        for what, right in [("runAsNonRoot", pod.get("runAsNonRoot")), ("runAsUser", pod.get("runAsUser")),
                            ("seccompProfile", pod.get("seccompProfile", {}).get("type") == "RuntimeDefault"),
                            ("allowPrivilegeEscalation", own.get("allowPrivilegeEscalation") is False),
                            ("readOnlyRootFilesystem", own.get("readOnlyRootFilesystem")),
                            ("capabilities", own.get("capabilities") == {"drop": ["ALL"]}),
                            ("automountServiceAccountToken", work.spec.get("automountServiceAccountToken") is False),
                            ("memory limit", work.container["resources"].get("limits", {}).get("memory")),
                            ("cpu request", work.container["resources"].get("requests", {}).get("cpu"))]:
            if not right:
                self.say(work.name, f"{what} is not as it must be")
        if not re.fullmatch(r"[^:]+:[0-9][^:]*", work.container["image"]):
            self.say(work.name, f"image {work.container['image']} names no version")

    def takers(self, selector):
        return [work for work in self.workloads if work.selected(selector)]

    def service(self, service):
        spec, takers = service["spec"], self.takers(service["spec"]["selector"])
        if not takers:
            self.say(name_of(service), "selects no pod")
        for work, port in itertools.product(takers, spec["ports"]):
            target = port.get("targetPort", port["port"])
            if target not in work.ports and target not in work.ports.values():
                self.say(name_of(service), f"{work.name} has no port {target}")
            if spec.get("clusterIP") == "None" and work.ports.get(target, target) != port["port"]:
                self.say(name_of(service), f"is headless: port {port['port']} reaches {work.name} only if that listens there")
            if work.selected(spec["selector"]) != 1:
                self.say(name_of(service), f"takes {work.selected(spec['selector'])} pods of a group of {work.name}; its leader is one")

    def budget(self, budget):
        if not self.takers(budget["spec"]["selector"]["matchLabels"]):
            self.say(name_of(budget), "selects no pod")
        if budget["spec"].get("maxUnavailable") != 1:
            self.say(name_of(budget), "must let one pod go at a time: less blocks every drain of a node, more may take several groups")

    def policy(self, policy):
        mine = self.takers(policy["spec"]["podSelector"].get("matchLabels", {}))
        if not mine:
            self.say(name_of(policy), "selects no pod")
        for direction, other in [("ingress", "from"), ("egress", "to")]:
            for rule in policy["spec"].get(direction, []):
                peers = []
                for peer in rule.get(other, []):
                    if peer.get("namespaceSelector") == {} or peer.get("podSelector") == {}:
                        self.say(name_of(policy), f"{direction}: opens to everybody: {peer}")
                    if "podSelector" in peer and "namespaceSelector" not in peer:
                        taken = self.takers(peer["podSelector"].get("matchLabels", {}))
                        peers += taken
                        if not taken:
                            self.say(name_of(policy), f"{direction}: {peer['podSelector']} selects no pod")
                for port, work in itertools.product(rule.get("ports", []), mine if direction == "ingress" else peers):
                    if port["port"] not in work.ports and port["port"] not in work.ports.values():
                        self.say(name_of(policy), f"{direction}: {work.name} has no port {port['port']}")

    def stateful_set(self, thing):
        service = self.of_kind("Service").get(thing["spec"]["serviceName"], {"spec": {}})
        if service["spec"].get("clusterIP") != "None":
            self.say(name_of(thing), f"serviceName {thing['spec']['serviceName']} is no headless service")

    def leader_worker_set(self, thing):
        spec = thing["spec"]
        if spec.get("startupPolicy") != "LeaderCreated":
            self.say(name_of(thing), "a leader is ready when all hosts are there: startupPolicy must be LeaderCreated")
        if spec["leaderWorkerTemplate"].get("restartPolicy") != "None":
            self.say(name_of(thing), "launchers form the group anew by themselves: restartPolicy must be None")
        if spec.get("rolloutStrategy", {}).get("rollingUpdateConfiguration", {}).get("maxSurge", 0) != 0:
            self.say(name_of(thing), "maxSurge needs hosts that nobody has to spare")
