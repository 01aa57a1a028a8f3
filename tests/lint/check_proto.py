"""Fails when the API breaks the rules that buf calls STANDARD and COMMENTS. check_proto.py DESCRIPTOR_SET [PACKAGE]."""
import re
import sys

from google.protobuf import descriptor_pb2

SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")
UPPER = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


def upper_snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


class Lint:
    def __init__(self, file):
        self.file, self.found, self.rpc_types = file, [], []
        self.comments = {tuple(l.path): l.leading_comments for l in file.source_code_info.location}

    def say(self, what):
        self.found.append(f"{self.file.name}: {what}")

    def commented(self, path, name):
        text = self.comments.get(tuple(path), "").strip()
        if not text:
            self.say(f"{name} has no comment")
        elif not text.endswith((".", ":")):
            self.say(f"the comment of {name} is not a sentence")

    def enum(self, enum, path, prefix=""):
        name = prefix + enum.name
        self.commented(path, name)
        if not PASCAL.fullmatch(enum.name):
            self.say(f"enum {name} is not PascalCase")
        if enum.value[0].number != 0 or not enum.value[0].name.endswith("_UNSPECIFIED"):
            self.say(f"enum {name} does not begin with ..._UNSPECIFIED = 0")
        for i, value in enumerate(enum.value):
            self.commented([*path, 2, i], f"{name}.{value.name}")
            if not value.name.startswith(upper_snake(enum.name) + "_") or not UPPER.fullmatch(value.name):
                self.say(f"{value.name} does not begin with {upper_snake(enum.name)}_")

    def message(self, message, path, prefix=""):
        name = prefix + message.name
        if message.options.map_entry:
            return
        self.commented(path, name)
        if not PASCAL.fullmatch(message.name):
            self.say(f"message {name} is not PascalCase")
        for i, field in enumerate(message.field):
            self.commented([*path, 2, i], f"{name}.{field.name}")
            if not SNAKE.fullmatch(field.name):
                self.say(f"field {name}.{field.name} is not snake_case")
        for i, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):  # Those are made for optional fields.
                self.commented([*path, 8, i], f"{name}.{oneof.name}")
        for i, nested in enumerate(message.nested_type):
            self.message(nested, [*path, 3, i], name + ".")
        for i, enum in enumerate(message.enum_type):
            self.enum(enum, [*path, 4, i], name + ".")

    def service(self, service, path):
        self.commented(path, service.name)
        if not service.name.endswith("Service"):
            self.say(f"service {service.name} does not end with Service")
        for i, method in enumerate(service.method):
            self.commented([*path, 2, i], f"{service.name}.{method.name}")
            for kind, used in (("Request", method.input_type), ("Response", method.output_type)):
                if not used.endswith(f".{method.name}{kind}"):
                    self.say(f"{method.name} takes or gives {used}, not {method.name}{kind}")
                self.rpc_types.append(used)

    def run(self):
        file = self.file
        if not re.search(r"\.v\d+$", file.package):
            self.say(f"package {file.package} has no version")
        if not file.name.startswith(file.package.replace(".", "/") + "/"):
            self.say(f"the folder is not {file.package.replace('.', '/')}")
        if file.public_dependency:
            self.say("imports publicly")
        if len(file.service) > 1:
            self.say("more than one service")
        for i, message in enumerate(file.message_type):
            self.message(message, [4, i])
        for i, enum in enumerate(file.enum_type):
            self.enum(enum, [5, i])
        for i, service in enumerate(file.service):
            self.service(service, [6, i])
        return self.found


def main():
    package = sys.argv[2] if len(sys.argv) > 2 else "conclave.v1"
    files = descriptor_pb2.FileDescriptorSet.FromString(open(sys.argv[1], "rb").read()).file
    lints = [Lint(file) for file in files if file.package == package]
    found = [line for lint in lints for line in lint.run()]
    types = [t for lint in lints for t in lint.rpc_types]
    found += [f"{t} serves two methods" for t in sorted({t for t in types if types.count(t) > 1})]
    print("\n".join(found) or f"proto: ok, {len(lints)} files, {len(types) // 2} methods")
    return bool(found) or not lints


if __name__ == "__main__":
    sys.exit(main())
