"""What deploy/ says holds together: names resolve, ports and times agree with the configs, and each rule finds its breach.

Environment: CONCLAVE_BIN, the folder of the programs (configs are checked with them). What is not installed is skipped, and
said: kubectl (with a kustomize that knows components), kubernetes-validate, systemd-analyze. LWS_CRD: the LeaderWorkerSet's
CustomResourceDefinition as a file, to check against its schema.
"""
import copy
import functools
import itertools
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

try:
    import yaml
except ImportError:
    print("skipped: there is no python3-yaml")
    raise SystemExit(77)

import manifests

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROGRAM = pathlib.Path(os.environ["CONCLAVE_BIN"], "conclave")
README = (DEPLOY / "README.md").read_text()
OVERLAYS = sorted(path.parent for path in DEPLOY.glob("kubernetes/overlays/*/kustomization.yaml"))


def run(*command, **more):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)


def tool(name):
    """A tool's path, also from beside a Python that a virtual environment brought."""
    return os.environ.get(name.upper().replace("-", "_")) or shutil.which(name)


@functools.cache
def render(folder):
    """What kubectl makes of a kustomization; None where there is no kubectl that can."""
    if tool("kubectl") is None:
        return None
    done = run(tool("kubectl"), "kustomize", folder)
    if done.returncode != 0 and "unknown field" in done.stderr:
        return None
    assert done.returncode == 0, f"{folder}: {done.stderr}"
    return done.stdout


class Kubernetes(unittest.TestCase):
    def test_every_overlay_as_written_holds_together(self):
        self.assertGreaterEqual(len(OVERLAYS), 2)
        for folder in OVERLAYS:
            if "patches" in manifests.documents(folder / "kustomization.yaml")[0]:
                continue  # Only with its patches is it whole.
            with self.subTest(overlay=folder.name):
                self.assertEqual(manifests.Checker(manifests.gather(folder), README).run(), [])

    def test_every_overlay_as_rendered_holds_together(self):
        for folder in OVERLAYS:
            with self.subTest(overlay=folder.name):
                text = render(folder)
                if text is None:
                    self.skipTest("no kubectl with a kustomize that knows components")
                objects = list(yaml.safe_load_all(text))
                self.assertEqual(manifests.Checker(objects, README).run(), [])
                self.programs_accept(objects)

    def test_every_overlay_keeps_to_the_schemas(self):
        validate, crd = tool("kubernetes-validate"), os.environ.get("LWS_CRD")
        if validate is None:
            self.skipTest("no kubernetes-validate (PyPI)")
        for folder in OVERLAYS:
            self.assertIn(f"`{folder.name}`", README)
            with self.subTest(overlay=folder.name), tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(render(folder) or self.skipTest("no kubectl"))
                file.flush()
                done = run(validate, "--strict", file.name)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                sets = [each for each in manifests.documents(pathlib.Path(file.name)) if each["kind"] == "LeaderWorkerSet"]
                if sets and crd:
                    self.keeps_to_crd(sets, yaml.safe_load(pathlib.Path(crd).read_text()))

    def test_every_component_fits_the_overlays_on_cpus(self):
        components = sorted(path.parent for path in DEPLOY.glob("kubernetes/components/*/kustomization.yaml"))
        self.assertGreaterEqual(len(components), 1)
        for folder, overlay in itertools.product(components, [path for path in OVERLAYS if path.name.startswith("cpu")]):
            with self.subTest(component=folder.name, overlay=overlay.name), tempfile.TemporaryDirectory() as own:
                here = pathlib.Path(own).resolve()
                pathlib.Path(here, "kustomization.yaml").write_text(yaml.safe_dump({
                    "resources": [os.path.relpath(overlay, here)],
                    "components": [os.path.relpath(folder, here)]}))
                text = render(here)
                if text is None:
                    self.skipTest("no kubectl with a kustomize that knows components")
                self.assertNotEqual(text, render(overlay))
                self.assertEqual(manifests.Checker(list(yaml.safe_load_all(text)), README).run(), [])
                self.programs_accept(list(yaml.safe_load_all(text)))
                self.assertIn(f"`{folder.name}`", README)

    def programs_accept(self, objects):
        """What the containers are started with is right: their configs and the overrides among their arguments."""
        checker = manifests.Checker(objects)
        for work in checker.workloads:
            config = checker.config_of(work) or {}
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump(config, file)
                done = run(PROGRAM, "check", "--only-text", "--as", work.container["name"], file.name,
                           *[each for each in work.container["args"] if each.startswith("--set=")])
                self.assertEqual(done.returncode, 0, done.stderr)

    def keeps_to_crd(self, sets, crd):
        import jsonschema
        [version] = [each for each in crd["spec"]["versions"] if each["name"] == "v1"]
        schema = version["schema"]["openAPIV3Schema"]
        for node in every_mapping(schema):  # An unknown field is a mistake.
            if node.get("type") == "object" and "properties" in node and "additionalProperties" not in node:
                node["additionalProperties"] = node is schema["properties"].get("metadata")
        schema["properties"]["metadata"] = {"type": "object"}
        for each in every_mapping(schema):
            if "metadata" in each.get("properties", {}):
                each["properties"]["metadata"] = {"type": "object"}
            if each.get("x-kubernetes-int-or-string"):
                each.pop("type", None)
        for each in sets:
            jsonschema.validate(each, schema)


def every_mapping(node):
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from every_mapping(each)


def take(objects, name):
    [found] = [each for each in objects if manifests.name_of(each) == name]
    return found


def pod_of(objects, name):
    return take(objects, name)["spec"]["template"]["spec"]


def container_of(objects, name):
    return pod_of(objects, name)["containers"][0]


def edit_config(objects, map_name, key, change):
    data = take(objects, f"ConfigMap/{map_name}")["data"]
    config = yaml.safe_load(data[key])
    change(config)
    data[key] = yaml.safe_dump(config)


ROUTER, WORKER = "Deployment/conclave-router", "StatefulSet/conclave-worker"


class Rules(unittest.TestCase):
    """Each rule is broken once, in the installation that is meant to be copied."""

    OBJECTS = manifests.gather(DEPLOY / "kubernetes/overlays/cpu")

    def found(self, change):
        objects = copy.deepcopy(self.OBJECTS)
        change(objects)
        return manifests.Checker(objects, README).run()

    def finds(self, words, change):
        found = self.found(change)
        self.assertTrue(any(words in each for each in found), (words, found))

    def config_finds(self, words, name, change):
        self.finds(words, lambda o: edit_config(o, f"conclave-{name}", f"{name}.yaml", change))

    def test_nothing_is_found_where_nothing_is_wrong(self):
        self.assertEqual(self.found(lambda objects: None), [])

    def test_names_that_lead_nowhere_are_found(self):
        self.finds("no config map conclave-x", lambda o: pod_of(o, ROUTER)["volumes"][0]["configMap"].update(name="conclave-x"))
        self.finds("is mounted nowhere", lambda o: container_of(o, WORKER)["volumeMounts"].pop())
        self.finds("and is not there", lambda o: pod_of(o, WORKER)["volumes"].pop())
        self.finds("no service account x", lambda o: pod_of(o, ROUTER).update(serviceAccountName="x"))
        self.finds("selects no pod", lambda o: take(o, "Service/conclave-router")["spec"]["selector"].update(x="y"))
        self.finds("has no port x", lambda o: take(o, "Service/conclave-router")["spec"]["ports"][0].update(targetPort="x"))
        self.finds("no headless service", lambda o: take(o, WORKER)["spec"].update(serviceName="conclave-router"))
        self.finds("selects no pod", lambda o: take(o, "PodDisruptionBudget/conclave-worker")["spec"]["selector"]["matchLabels"].update(x="y"))
        self.finds("nobody says how secret x", lambda o: pod_of(o, ROUTER)["volumes"].append({"name": "config", "secret": {"secretName": "x"}}))
        self.finds("is there twice", lambda o: o.append(take(o, ROUTER)))

    def test_policies_that_miss_are_found(self):
        def policy(o):
            return take(o, "NetworkPolicy/conclave-worker")["spec"]
        self.finds("has no port 9999", lambda o: policy(o)["ingress"][0]["ports"][0].update(port=9999))
        self.finds("selects no pod", lambda o: policy(o)["podSelector"]["matchLabels"].update(x="y"))
        self.finds("ingress: ", lambda o: policy(o)["ingress"][0]["from"][0]["podSelector"]["matchLabels"].update(x="y"))
        self.finds("egress: StatefulSet/conclave-worker has no port 1",
                   lambda o: take(o, "NetworkPolicy/conclave-router")["spec"]["egress"][0]["ports"][0].update(port=1))

        self.finds("egress: opens to everybody",
                   lambda o: take(o, "NetworkPolicy/conclave-router")["spec"]["egress"][-1]["to"][0].update(namespaceSelector={}))

    def test_names_are_asked_of_the_clusters_dns_alone(self):
        for folder in sorted(DEPLOY.glob("kubernetes/overlays/*")):
            rules = [rule for each in manifests.gather(folder) if each["kind"] == "NetworkPolicy" for rule in each["spec"].get("egress", [])
                     if 53 in [port["port"] for port in rule.get("ports", [])]]
            self.assertTrue(rules, folder)
            for rule in rules:
                self.assertEqual(rule["to"], [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}])

    def test_probes_that_ask_in_vain_are_found(self):
        self.finds("readinessProbe asks port 1", lambda o: container_of(o, ROUTER)["readinessProbe"]["grpc"].update(port=1))
        self.finds("asks for readiness, not liveness",
                   lambda o: container_of(o, WORKER)["livenessProbe"]["grpc"].update(service="readiness"))
        self.finds("startupProbe asks port None", lambda o: container_of(o, WORKER).pop("startupProbe"))

    def test_configs_that_contradict_the_pod_are_found(self):
        self.config_finds("server.listen is 127.0.0.1:9100", "router", lambda c: c["server"].update(listen="127.0.0.1:9100"))
        self.config_finds("health.listen is 0.0.0.0:1", "worker", lambda c: c["health"].update(listen="0.0.0.0:1"))
        self.config_finds("metrics.listen is 127.0.0.1:0", "worker", lambda c: c.pop("metrics"))
        self.config_finds("drains for 3610 s", "router", lambda c: c["drain"].update(timeout="1h"))
        self.config_finds("conclave-router is no headless service", "router", lambda c: c["workers"].update(dns="conclave-router:9101"))
        self.config_finds("has no port 1", "router", lambda c: c["workers"].update(dns="conclave-workers:1"))
        self.config_finds("8 ranks of 1 threads", "worker", lambda c: c["group"].update(tensor_parallel=8))
        self.config_finds("8 ranks, and 0 GPUs", "worker", lambda c: c["group"].update(device="cuda", tensor_parallel=8))
        self.config_finds("/dev/shm", "worker", lambda c: c["group"].update(device="cuda"))
        self.config_finds("/nowhere cannot be written", "worker", lambda c: c["launcher"].update(flight_directory="/nowhere"))
        self.finds("is on no volume", lambda o: container_of(o, ROUTER)["args"].__setitem__(1, "/elsewhere/router.yaml"))
        self.finds("no config map has r.yaml", lambda o: container_of(o, ROUTER)["args"].__setitem__(1, "/etc/conclave/r.yaml"))

    def test_pods_that_may_too_much_are_found(self):
        self.finds("runAsNonRoot", lambda o: pod_of(o, ROUTER)["securityContext"].pop("runAsNonRoot"))
        self.finds("readOnlyRootFilesystem", lambda o: container_of(o, WORKER)["securityContext"].pop("readOnlyRootFilesystem"))
        self.finds("capabilities", lambda o: container_of(o, WORKER)["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]))
        self.finds("memory limit", lambda o: container_of(o, WORKER)["resources"].pop("limits"))
        self.finds("names no version", lambda o: container_of(o, ROUTER).update(image="conclave:latest"))

    def test_a_service_that_takes_followers_for_groups_is_found(self):
        def grow(objects):
            worker = take(objects, WORKER)
            worker.update(kind="LeaderWorkerSet")
            worker["spec"].update(leaderWorkerTemplate={"size": 2, "workerTemplate": worker["spec"].pop("template")})
        self.finds("takes 2 pods of a group", grow)
        self.finds("startupPolicy must be LeaderCreated", grow)
        self.finds("place must be environment", grow)


class Configs(unittest.TestCase):
    """Every config in deploy/ is one that its program starts with."""

    FILES = sorted(path for path in DEPLOY.rglob("*.yaml") if path.name in ("router.yaml", "worker.yaml") and
                   (path.parent.name in ("config", "compose")))

    def test_the_programs_accept_them(self):
        self.assertGreaterEqual(len(self.FILES), 4)
        done = run(PROGRAM, "check", "--only-text", *self.FILES, cwd=ROOT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count(": ok, a "), len(self.FILES))


class Compose(unittest.TestCase):
    FOLDER = DEPLOY / "compose"
    [FILE] = manifests.documents(FOLDER / "compose.yaml")
    SERVICES = FILE["services"]

    def test_what_is_mounted_is_there(self):
        for name, service in self.SERVICES.items():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                there = (self.FOLDER / source).exists() if source.startswith(".") else source in self.FILE["volumes"]
                self.assertTrue(there, f"{name}: {volume}")

    def test_programs_listen_where_others_look(self):
        for name, health in [("router", "9104"), ("worker", "9102")]:
            [config] = manifests.documents(self.FOLDER / f"{name}.yaml")
            self.assertIn(f"./{name}.yaml:/etc/conclave/{name}.yaml:ro", self.SERVICES[name]["volumes"])
            self.assertEqual(self.SERVICES[name]["healthcheck"]["test"][:3], ["CMD", "conclave", "health"])
            self.assertIn(f"127.0.0.1:{health}", self.SERVICES[name]["healthcheck"]["test"][3])
            for section in ("server", "metrics"):
                self.assertTrue(config[section]["listen"].startswith("0.0.0.0:"))
        [router] = manifests.documents(self.FOLDER / "router.yaml")
        [worker] = manifests.documents(self.FOLDER / "worker.yaml")
        self.assertEqual(router["workers"]["dns"], "worker:" + worker["server"]["listen"].split(":")[1])

    def test_ports_are_open_on_loopback_only(self):
        for service in self.SERVICES.values():
            for port in service.get("ports", []):
                self.assertTrue(port.startswith("127.0.0.1:"), port)

    def test_prometheus_looks_where_the_programs_have_their_metrics(self):
        [scrape] = manifests.documents(DEPLOY / "prometheus/prometheus.yaml")
        # Every address of a service's name is a target of its own: `up --scale worker=2` makes two.
        found = [each for job in scrape["scrape_configs"] for each in job["dns_sd_configs"]]
        self.assertEqual({each["type"] for each in found}, {"A"})
        looks = {(name, each["port"]) for each in found for name in each["names"]}
        configs = {name: manifests.documents(self.FOLDER / f"{name}.yaml")[0] for name in ("router", "worker")}
        self.assertEqual(looks, {(name, int(config["metrics"]["listen"].split(":")[1])) for name, config in configs.items()})
        command = " ".join(self.SERVICES["prometheus"]["command"])
        self.assertIn("--config.file=/etc/prometheus/prometheus.yaml", command)
        self.assertIn("../prometheus:/etc/prometheus:ro", self.SERVICES["prometheus"]["volumes"])

    def test_grafana_finds_prometheus_and_the_dashboard(self):
        [source] = manifests.documents(self.FOLDER / "grafana/datasources/prometheus.yaml")
        self.assertEqual(source["datasources"][0]["url"], "http://prometheus:9090")
        [provider] = manifests.documents(self.FOLDER / "grafana/dashboards/conclave.yaml")
        folder = provider["providers"][0]["options"]["path"]
        self.assertIn(f"../grafana:{folder}:ro", self.SERVICES["grafana"]["volumes"])
        home = self.SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        self.assertTrue((DEPLOY / "grafana" / home.removeprefix(folder + "/")).exists(), home)


class Drains(unittest.TestCase):
    """Nothing is killed while it may still drain: with the defaults, by compose and systemd."""

    DEFAULTS = {name: yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text()) for name in ("router", "worker")}

    def longest(self, name):
        config = self.DEFAULTS[name]
        drain = config.get("drain", {})
        return sum(map(manifests.seconds, (config.get("drain_timeout", "0s"), drain.get("delay", "0s"), drain.get("timeout", "0s"))))

    def test_compose_waits_for_it(self):
        for name in self.DEFAULTS:
            self.assertEqual(manifests.seconds(Compose.SERVICES[name]["stop_grace_period"]), self.longest(name) + 20)

    def test_systemd_waits_for_it(self):
        for name in self.DEFAULTS:
            unit = (DEPLOY / f"systemd/conclave-{name}.service").read_text()
            [stop] = [line.split("=")[1] for line in unit.splitlines() if line.startswith("TimeoutStopSec=")]
            self.assertEqual(manifests.seconds(stop), self.longest(name) + 20)


class Systemd(unittest.TestCase):
    def test_the_units_are_right(self):
        if tool("systemd-analyze") is None:
            self.skipTest("no systemd-analyze")
        with tempfile.TemporaryDirectory() as folder:
            for unit in DEPLOY.glob("systemd/*.service"):
                # It wants the program to be there.
                text = unit.read_text().replace("/usr/local/bin/", f"{PROGRAM.parent}/")
                pathlib.Path(folder, unit.name).write_text(text)
            done = run("systemd-analyze", "verify", "--man=no", *pathlib.Path(folder).iterdir())
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))


class Image(unittest.TestCase):
    def test_what_goes_into_the_build_is_there(self):
        wanted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        for name in wanted:
            self.assertTrue((ROOT / name).exists(), name)
        for room in (ROOT / "CMakeLists.txt").read_text().split("set(CONCLAVE_ROOMS")[1].split(")")[0].split():
            self.assertIn(room.split("/")[0], wanted)


if __name__ == "__main__":
    unittest.main(verbosity=2)
