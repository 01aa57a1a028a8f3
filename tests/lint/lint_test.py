"""The linters find what they are for: each rule is broken once in a small tree or descriptor."""
import itertools
import pathlib
import tempfile
import unittest

from google.protobuf import descriptor_pb2

import check_layers
import check_proto
import check_style

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


if __name__ == "__main__":
    unittest.main()
