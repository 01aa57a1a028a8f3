"""The linters find what they are for: each rule is broken once in a small tree or descriptor."""
import itertools
import pathlib
import tempfile
import unittest

from google.protobuf import descriptor_pb2

import check_layers
import check_proto
import check_style
import check_wire

FOLDER, COUNT = tempfile.TemporaryDirectory(), itertools.count()


def tree(files):
    root = pathlib.Path(FOLDER.name, str(next(COUNT)))
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


class Layers(unittest.TestCase):
    TABLE = "low:\nhigh: low\nonly <?grpc/.*: high\n"

    def found(self, files):
        root = tree({**files, "t.txt": self.TABLE})
        return list(check_layers.complaints(root, root / "t.txt"))

    def test_an_include_upwards_is_found(self):
        self.assertIn("low must not include high", self.found({"low/a.h": '#include "high/b.h"\n', "high/b.h": ""})[0])

    def test_an_include_downwards_passes(self):
        self.assertEqual(self.found({"high/a.h": '#include "low/b.h"\n', "low/b.h": ""}), [])

    def test_a_third_party_outside_its_room_is_found(self):
        self.assertIn("visible only in high", self.found({"low/a.cc": "#include <grpc/grpc.h>\n", "high/b.h": ""})[0])


class Style(unittest.TestCase):
    def found(self, name, text):
        return list(check_style.complaints(str(tree({name: text}))))

    def test_each_rule_finds_its_breach(self):
        for name, text, words in [("a.h", "#pragma once\n" * 201, "limit is 200"), ("a.h", "int x;\n", "no #pragma once"),
                                  ("a.cc", "class ThingManager {};\n", "says nothing"), ("a.cc", "// TO" + "DO later\n", "issue"),
                                  ("a.cc", "x" * 101 + "\n", "100"), ("a_test.cc", "TEST(A, BasicThing) {}\n", "must hold")]:
            self.assertTrue(any(words in f for f in self.found(name, text)), (name, words))

    def test_a_clean_file_passes(self):
        self.assertEqual(self.found("a.h", "#pragma once\n"), [])


class Proto(unittest.TestCase):
    def found(self, change):
        file = descriptor_pb2.FileDescriptorProto(name="p/v1/a.proto", package="p.v1")
        change(file)
        return check_proto.Lint(file).run()

    def test_each_rule_finds_its_breach(self):
        def enum(file):
            file.enum_type.add(name="Kind").value.add(name="A", number=0)

        def service(file):
            file.service.add(name="Thing").method.add(name="Do", input_type=".p.v1.X", output_type=".p.v1.DoResponse")

        for change, words in [(lambda f: f.message_type.add(name="lower"), "PascalCase"), (enum, "_UNSPECIFIED"),
                              (lambda f: f.message_type.add(name="A").field.add(name="Bad"), "snake_case"),
                              (lambda f: f.message_type.add(name="A"), "no comment"), (service, "end with Service"),
                              (service, "not DoRequest"), (lambda f: setattr(f, "package", "p"), "no version")]:
            self.assertTrue(any(words in f for f in self.found(change)), words)


class Wire(unittest.TestCase):
    """An API and its next version, of which one thing is changed."""

    F = descriptor_pb2.FieldDescriptorProto

    def version(self):
        file = descriptor_pb2.FileDescriptorProto(name="a.proto", package="conclave.v9", syntax="proto3")
        message = file.message_type.add(name="A")
        message.field.add(name="text", number=1, type=self.F.TYPE_STRING, label=self.F.LABEL_OPTIONAL)
        message.field.add(name="more", number=2, type=self.F.TYPE_MESSAGE, type_name=".conclave.v9.A", label=self.F.LABEL_REPEATED)
        message.field.add(name="kind", number=3, type=self.F.TYPE_ENUM, type_name=".conclave.v9.Kind", label=self.F.LABEL_OPTIONAL)
        message.reserved_range.add(start=9, end=10)
        kind = file.enum_type.add(name="Kind")
        kind.value.add(name="KIND_UNSPECIFIED", number=0)
        kind.value.add(name="KIND_GOOD", number=1)
        file.service.add(name="S").method.add(name="Do", input_type=".conclave.v9.A", output_type=".conclave.v9.A")
        return file

    def sets(self, change):
        old, new = self.version(), self.version()
        change(new)
        return descriptor_pb2.FileDescriptorSet(file=[new]), descriptor_pb2.FileDescriptorSet(file=[old])

    def test_each_breach_is_found(self):
        def fields(file):
            return file.message_type[0].field

        def reuse(file):
            fields(file)[0].name = "words"

        def retype(file):
            fields(file)[0].type = self.F.TYPE_BYTES

        def remove(file):
            del fields(file)[1]

        def renumber(file):
            fields(file)[0].number = 7

        def reserved(file):
            fields(file).add(name="old", number=9, type=self.F.TYPE_STRING, label=self.F.LABEL_OPTIONAL)

        def value(file):
            file.enum_type[0].value[1].name = "KIND_BAD"

        def stream(file):
            file.service[0].method[0].server_streaming = True

        for change, words in [(reuse, "1 was text, and is words"), (retype, "was TYPE_STRING"), (remove, "A.more = 2 is gone"),
                              (renumber, "A.text = 1 is gone"), (reserved, "was reserved"),
                              (value, "1 was KIND_GOOD, and is KIND_BAD"), (stream, "server_streaming was False"),
                              (lambda f: f.message_type[0].ClearField("field"), "is gone"),
                              (lambda f: f.service[0].ClearField("method"), "rpc conclave.v9.S.Do is gone"),
                              (lambda f: f.enum_type[0].ClearField("value"), "is gone")]:
            self.assertTrue(any(words in f for f in check_wire.compare(*self.sets(change))), words)

    def test_an_added_field_and_a_reserved_one_pass(self):
        def change(file):
            message = file.message_type[0]
            del message.field[0]
            message.reserved_range.add(start=1, end=2)
            message.field.add(name="new", number=4, type=self.F.TYPE_INT64, label=self.F.LABEL_OPTIONAL)
        self.assertEqual(check_wire.compare(*self.sets(change)), [])

    def converse(self, change):
        new, old = (check_wire.Version(files) for files in self.sets(change))
        return check_wire.converse("conclave.v9.A", new, old)[0]

    def test_what_the_previous_version_does_not_know_travels_through_it(self):
        self.assertEqual(self.converse(lambda f: f.message_type[0].field.add(
            name="new", number=4, type=self.F.TYPE_DOUBLE, label=self.F.LABEL_OPTIONAL)), [])

    def test_a_known_field_that_is_read_otherwise_is_found(self):
        def change(file):
            file.message_type[0].field[0].type = self.F.TYPE_INT32
        self.assertTrue(any("A.text was not read" in f for f in self.converse(change)))


if __name__ == "__main__":
    unittest.main()
