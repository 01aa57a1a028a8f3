"""A real router and a real worker group of two ranks, for tests in Python."""
import contextlib
import pathlib
import subprocess
import tempfile
import time
import urllib.request

PATIENCE = 180  # Seconds, for everything together that comes with time.
QUESTION = "Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have now?"


def until(what, condition):
    """Looks at the outside world until it is so."""
    end = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.1)


class Programs(contextlib.ExitStack):
    """What runs under a test, with one folder for its files; killed at the end."""

    def __init__(self, bin_folder, root):
        super().__init__()
        self.bin, self.root = pathlib.Path(bin_folder).resolve(), pathlib.Path(root).resolve()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def start(self, name, *command):
        log = self.enter_context(open(self.folder / f"{name}.log", "wb"))
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=self.folder)
        self.callback(process.wait)
        self.callback(process.kill)
        return process

    def serve(self, name, *settings):
        """Starts conclave-NAME on free ports, and gives them."""
        ports = self.folder / f"{name}.ports"
        flags = [f"ports_file={ports}", *(f"{each}.listen=127.0.0.1:0" for each in ("server", "health", "metrics")), *settings]
        command = [self.bin / f"conclave-{name}", "--config", self.root / f"configs/{name}.yaml"]
        process = self.start(name, *command, *(word for flag in flags for word in ("--set", flag)))
        until(f"{name} does not start", lambda: ports.exists() or process.poll() is not None)
        if not ports.exists():
            raise RuntimeError((self.folder / f"{name}.log").read_text())
        return dict(line.split("=") for line in ports.read_text().split())

    def ask(self, router, *flags, leave=False):
        """One question. leave: its client is killed in the middle of it."""
        command = [self.bin / "conclave", "ask", QUESTION, "--router", router, "--json", *flags]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if leave:
            client.stdout.readline()  # It was admitted.
            client.kill()
        output = client.communicate()[0]
        if not leave and client.returncode != 0:
            raise RuntimeError(output.decode())

    def serve_pair(self):
        """A group with the model that ships, and a router that has found it: their ports."""
        worker = self.serve("worker", f"model.directory={self.root}/models/conclave-demo",
                            f"model.fallback_profile={self.root}/configs/prompts/default.yaml")
        router = self.serve("router", f"workers.addresses=[127.0.0.1:{worker['server']}]")
        until("no group is ready", lambda: page(router["metrics"]).get("conclave_groups_ready") == 1)
        return worker, router


def page(port):
    """What a program's page says: series and their values."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
