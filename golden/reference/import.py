"""Copies reference cases into this folder, keeping only the tensors that tests read.

usage: python3 import.py REFERENCE SET|SET/CASE...     (REFERENCE holds <set>/<case>/{config.json, weights.safetensors, io.safetensors})
"""
import json
import pathlib
import struct
import sys

KINDS = {"classifier", "forward", "recorder"}
KEEP = ("input", "output", "output_as", "attn")


def read(path):
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def write(path, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def keep(source, target, wanted):
    header, data = read(source)
    out, blob = {}, b""
    for name, info in header.items():
        if name != "__metadata__" and wanted(name):
            a, b = info["data_offsets"]
            out[name] = {**info, "data_offsets": [len(blob), len(blob) + b - a]}
            blob += data[a:b]
    write(target, out, blob)


root, sets = pathlib.Path(sys.argv[1]), sys.argv[2:]
for case in sorted(c for s in sets for c in ([root / s] if "/" in s else (root / s).iterdir())):
    config = json.loads((case / "config.json").read_text())
    if config["kind"] not in KINDS:
        continue
    out = pathlib.Path(__file__).parent / case.parent.name / case.name
    out.mkdir(parents=True, exist_ok=True)
    names = ("name", "set", "variant", "kind", "kwargs", "source", "tolerance", "version", "era", "inner", "ambiguous_with", "read_as")
    (out / "config.json").write_text(json.dumps({k: config[k] for k in names if k in config}, indent=1) + "\n")
    if (case / "model.toml").exists():
        (out / "model.toml").write_text((case / "model.toml").read_text())
    keep(case / "weights.safetensors", out / "weights.safetensors", lambda n: True)
    keep(case / "io.safetensors", out / "io.safetensors", lambda n: n.split(".")[0] in KEEP and n != "output_train")
