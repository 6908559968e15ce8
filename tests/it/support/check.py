"""Checks ONNX files with the official checker and runs them in OpenVINO.

usage: check.py FOLDER     (FOLDER holds <name>.onnx, <name>.in.npy and <name>.out.npy; prints one JSON line a file)
"""
import json
import pathlib
import sys

import numpy
import onnx
import openvino

core = openvino.Core()
core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2})
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    onnx.checker.check_model(str(path), full_check=True)
    line = {"name": path.stem, "checked": True}
    if path.with_suffix(".in.npy").exists() and "com.microsoft" not in {o.domain for o in onnx.load(path, load_external_data=False).opset_import}:
        compiled = core.compile_model(str(path), "CPU")
        got = compiled([numpy.load(path.with_suffix(".in.npy"))])[0]
        want = numpy.load(path.with_suffix(".out.npy"))
        assert got.shape == want.shape, (path, got.shape, want.shape)
        line["difference"] = float(numpy.abs(got - want).max())
        line["largest"] = float(numpy.abs(want).max())
    print(json.dumps(line))
