"""Copies manifests of the original packages into this folder, in compact form.

usage: python3 import.py MANIFESTS SET...     (MANIFESTS holds <set>/<name>.json: constructor arguments, state dict)
"""
import json
import pathlib
import sys

# Models of the registry; training wrappers are not declared as variants.
NAMES = ("vit", "deepvit", "cait", "t2t", "cross_vit", "pit", "levit", "cvt", "local_vit", "rvt")
PLUG_INS = "efficient_"

root, sets = pathlib.Path(sys.argv[1]), sys.argv[2:]
for source in sorted(f for s in sets for f in (root / s).glob("*.json")):
    if source.stem not in NAMES and not source.stem.startswith(PLUG_INS):
        continue
    m = json.loads(source.read_text())
    state = m["state_dict"]
    names = lambda kind: {e["name"]: e["shape"] for e in state if (e["kind"] == "parameter") == kind}
    head = {
        "variant": "efficient" if source.stem.startswith(PLUG_INS) else source.stem,
        "source": m["source"],
        "kwargs": m["constructor_kwargs"],
        "parameter_count": m["parameter_count"],
    }
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in head.items()]
    for key, kind in (("parameters", True), ("buffers", False)):
        entries = ",\n".join(f" {json.dumps(n)}: {json.dumps(s)}" for n, s in names(kind).items())
        lines.append(f"{json.dumps(key)}: {{\n{entries}}}")
    out = pathlib.Path(__file__).parent / source.parent.name
    out.mkdir(exist_ok=True)
    (out / source.name).write_text("{" + ",\n".join(lines) + "}\n")
