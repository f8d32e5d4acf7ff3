"""Loaded by a function's Python as it starts: writes down each AWS call of the function, one line each."""

import json
import os

import botocore.handlers


def _record(params, model, **_):
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    line = json.dumps([model.service_model.service_name, model.name, params, function], default=str)
    with open(os.environ["AWS_CALLS"], "a") as file:
        file.write(line + "\n")


botocore.handlers.BUILTIN_HANDLERS.append(("before-parameter-build", _record))
