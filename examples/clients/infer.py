#!/usr/bin/env python3
"""A client of the model server with nothing but Python's library (Open Inference Protocol, REST, JSON).

    infer.py HOST PORT MODEL INPUT VALUE...
"""

import json
import sys
import urllib.error
import urllib.request

host, port, model, name, *values = sys.argv[1:]
body = {"inputs": [{"name": name, "datatype": "FP32", "shape": [len(values)], "data": [float(v) for v in values]}]}
try:
    with urllib.request.urlopen(f"http://{host}:{port}/v2/models/{model}/infer", json.dumps(body).encode(), timeout=30) as answer:
        for value in json.load(answer)["outputs"][0]["data"]:
            print(f"{value:g}")
except urllib.error.HTTPError as error:
    sys.exit(json.load(error)["error"])
