"""Fails when versions N and N-1 of the API could not work together. check_wire.py PRESENT PREVIOUS, two descriptor sets.

Of everything in PREVIOUS: no message, field, enum value, service or method is gone, no number or type is another one, no
number of it carries something new. And by messages: whatever the present version says, with every field filled, the previous
one reads, keeps what it does not know, and gives back unchanged; and the other way round.
"""
import pathlib
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "conclave."
F = descriptor_pb2.FieldDescriptorProto
DEPTH = 4  # Of messages within messages that are filled.


def load(path):
    return descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(path).read_bytes())


def named(files):
    """Every message, enum and service of ours by its full name."""
    messages, enums, services = {}, {}, {}

    def walk(message, prefix):
        name = f"{prefix}.{message.name}"
        messages[name] = message
        enums.update({f"{name}.{e.name}": e for e in message.enum_type})
        for nested in message.nested_type:
            walk(nested, name)

    for file in files.file:
        if not f"{file.package}.".startswith(PACKAGE):
            continue
        for message in file.message_type:
            walk(message, file.package)
        enums.update({f"{file.package}.{e.name}": e for e in file.enum_type})
        services.update({f"{file.package}.{s.name}": s for s in file.service})
    return messages, enums, services


def covered(ranges, number, last):
    """Whether `number` is reserved; `last`: 1 when the ranges include their end."""
    return any(r.start <= number < r.end + last for r in ranges)


def shape(message, field):
    """What the wire knows of a field, beside its number."""
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
    kind = F.Type.Name(field.type)
    return f"{'repeated ' if field.label == F.LABEL_REPEATED else ''}{kind} {field.type_name} {oneof}".rstrip()


def compare(present, previous):
    """Complaints, of descriptors alone."""
    found = []
    new, old = named(present), named(previous)
    for name, message in old[0].items():
        if name not in new[0]:
            found.append(f"message {name} is gone")
            continue
        fields = {f.number: f for f in new[0][name].field}
        for field in message.field:
            now = fields.get(field.number)
            if now is None:
                if not covered(new[0][name].reserved_range, field.number, 0):
                    found.append(f"{name}.{field.name} = {field.number} is gone, and its number not reserved")
            elif now.name != field.name:
                found.append(f"{name}: {field.number} was {field.name}, and is {now.name}")
            elif shape(new[0][name], now) != shape(message, field):
                found.append(f"{name}.{field.name} was {shape(message, field)}, and is {shape(new[0][name], now)}")
        for field in new[0][name].field:
            if covered(message.reserved_range, field.number, 0):
                found.append(f"{name}.{field.name} = {field.number} was reserved")
    for name, enum in old[1].items():
        if name not in new[1]:
            found.append(f"enum {name} is gone")
            continue
        values = {v.number: v.name for v in new[1][name].value}
        for value in enum.value:
            if value.number not in values:
                if not covered(new[1][name].reserved_range, value.number, 1):
                    found.append(f"{name}.{value.name} = {value.number} is gone, and its number not reserved")
            elif values[value.number] != value.name:
                found.append(f"{name}: {value.number} was {value.name}, and is {values[value.number]}")
        for number, now in values.items():
            if covered(enum.reserved_range, number, 1):
                found.append(f"{name}.{now} = {number} was reserved")
    for name, service in old[2].items():
        methods = {m.name: m for m in new[2][name].method} if name in new[2] else {}
        for method in service.method:
            now = methods.get(method.name)
            if now is None:
                found.append(f"rpc {name}.{method.name} is gone")
                continue
            for part in ("input_type", "output_type", "client_streaming", "server_streaming"):
                if getattr(now, part) != getattr(method, part):
                    found.append(f"rpc {name}.{method.name}: {part} was {getattr(method, part)}, and is {getattr(now, part)}")
    return found


class Version:
    """One version's messages, made from its descriptors."""

    def __init__(self, files):
        self.pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self.pool.Add(file)

    def message(self, name):
        descriptor = self.pool.FindMessageTypeByName(name)
        if hasattr(message_factory, "GetMessageClass"):  # Since protobuf 4.22.
            return message_factory.GetMessageClass(descriptor)()
        return message_factory.MessageFactory(self.pool).GetPrototype(descriptor)()


def value_of(field, seed):
    if field.type == F.TYPE_STRING:
        return f"{field.name} {seed}"
    if field.type == F.TYPE_BYTES:
        return f"{field.name} {seed}".encode()
    if field.type == F.TYPE_ENUM:
        return field.enum_type.values[-1].number  # The newest.
    if field.type in (F.TYPE_FLOAT, F.TYPE_DOUBLE):
        return 0.5 + seed
    return True if field.type == F.TYPE_BOOL else 1 + seed


def fill(message, depth, arm, arms):
    """Every field, with the `arm`-th field of each oneof; `arms` gathers how many arms there are."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1:
            choices = field.containing_oneof.fields
            arms.append(len(choices))
            if choices[arm % len(choices)] is not field:
                continue
        repeated = field.label == F.LABEL_REPEATED
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.message_type is not None:
            if depth > 0:
                for _ in range(2 if repeated else 1):
                    part = getattr(message, field.name).add() if repeated else getattr(message, field.name)
                    part.SetInParent()
                    fill(part, depth - 1, arm, arms)
        elif repeated:
            getattr(message, field.name).extend([value_of(field, 0), value_of(field, 1)])
        else:
            setattr(message, field.name, value_of(field, 0))


def lost(said, heard, where):
    """Fields that `heard`'s version knows, and has otherwise than `said`."""
    found = []
    for field, value in heard.ListFields():
        other = said.DESCRIPTOR.fields_by_number.get(field.number)
        before = getattr(said, other.name) if other is not None else None
        if field.message_type is None:
            same = before is not None and (list(before) == list(value) if field.label == F.LABEL_REPEATED else before == value)
            found += [] if same else [f"{where}.{field.name} was read as {value}"]
            continue
        pairs = zip(before, value) if field.label == F.LABEL_REPEATED else [(before, value)]
        if field.label == F.LABEL_REPEATED and len(before) != len(value):
            found.append(f"{where}.{field.name}: {len(value)} of {len(before)} were read")
        for a, b in pairs:
            found += lost(a, b, f"{where}.{field.name}")
    known = set(heard.DESCRIPTOR.fields_by_number)
    there = {field.number for field, _ in heard.ListFields()}
    found += [f"{where}.{f.name} was not read" for f, _ in said.ListFields() if f.number in known - there]
    return found


def converse(name, speaker, hearer):
    """Complaints about messages `name` that `speaker` sends, `hearer` reads and sends back. And how many were sent."""
    found, arm, most = [], 0, 1
    while arm < most:
        arms = []
        said = speaker.message(name)
        fill(said, DEPTH, arm, arms)
        most = max([most, *arms])
        heard = hearer.message(name)
        heard.ParseFromString(said.SerializeToString())
        found += lost(said, heard, name)
        back = speaker.message(name)
        back.ParseFromString(heard.SerializeToString())
        if back != said:
            found.append(f"{name} came back changed")
        arm += 1
    return found, arm


def main():
    present, previous = load(sys.argv[1]), load(sys.argv[2])
    found = compare(present, previous)
    new, old = Version(present), Version(previous)
    names = sorted(set(named(previous)[0]) & set(named(present)[0]))
    sent = 0
    for name in names:
        for speaker, hearer in ((new, old), (old, new)):
            complaints, count = converse(name, speaker, hearer)
            found += complaints
            sent += count
    print("\n".join(sorted(set(found))) or f"wire: ok, {len(names)} messages of the previous version, {sent} sent to and fro")
    return bool(found) or not names


if __name__ == "__main__":
    sys.exit(main())
