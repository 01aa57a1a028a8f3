"""promtool takes the configuration and the rules, and every alert does what its test says. promtool_test.py DEPLOY

Exit 77: there is no promtool here (package prometheus)."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

if not shutil.which("promtool"):
    print("skipped: there is no promtool")
    sys.exit(77)

folder = pathlib.Path(sys.argv[1], "prometheus")
failed = False


def promtool(*arguments):
    global failed
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)
    print(done.stdout + done.stderr, end="")
    failed |= done.returncode != 0
    return done


promtool("check", "config", folder / "prometheus.yaml")
promtool("test", "rules", folder / "rules_test.yaml")

# Debian's Prometheus is built without Kubernetes: the rest of that file is looked at with another discovery in its place.
cluster = (folder / "kubernetes.yaml").read_text()
plain, count = re.subn(r"kubernetes_sd_configs: &pods\n +- role: pod", "static_configs: &pods\n      - targets: [pod]", cluster)
plain = plain.replace("kubernetes_sd_configs: *pods", "static_configs: *pods")
with tempfile.TemporaryDirectory() as scratch:
    shutil.copy(folder / "rules.yaml", scratch)
    path = pathlib.Path(scratch, "kubernetes.yaml")
    path.write_text(plain)
    promtool("check", "config", path)
sys.exit(failed or count != 1)
