"""Runs programs that `gpu.py` asks for, one after the other in this process.

They share the start of JAX and of PyTorch, and what JAX finds when it compiles. A request is a line
of JSON with Python's ``arguments`` and the file ``output`` that receives what is printed; the
answer is a line with the program's status.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import sys
import traceback


def main() -> None:
    # Programs, and those that they start, have neither end of the pipe.
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in requests:
        request = json.loads(line)
        with open(request["output"], "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        status = run(request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
        print(json.dumps(status), file=answers, flush=True)


def run(arguments: list[str]) -> int:
    """The status of a program: a file and its arguments, or ``-m``, a module and its arguments."""
    module = arguments[0] == "-m"
    sys.argv = arguments[1:] if module else list(arguments)
    try:
        if module:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return int(end.code or 0)
        print(end.code, file=sys.stderr)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        # What the program left on the device.
        gc.collect()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()
    return 0


if __name__ == "__main__":
    main()
