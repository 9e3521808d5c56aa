#!/usr/bin/env python3
"""convert_weight.py IN.pth OUT.fr: the converter of faster-rwkv's first days, by its old name and arguments.

Needs nothing but Python and the program frwkv: `frwkv convert IN OUT` does the work. The program is $FRWKV_BIN, or one that was built in this
directory, or the first in PATH. IN may be what ChatRWKV's convert_model.py made, as it used to be, or an official
RWKV-4 or RWKV-5 model. Further arguments go to `frwkv convert`.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
BUILT = ["out/release/bin/frwkv", "build/bin/frwkv", "build/frwkv", "bin/frwkv"]
HOW_TO_BUILD = "./run build frwkv"


def find_program():
    """The path of frwkv, or None. A wrong FRWKV_BIN is an error, not a reason to take another one."""
    named = os.environ.get("FRWKV_BIN")
    if named:
        program = shutil.which(named)
        if program is None:
            sys.exit(f"error: FRWKV_BIN is no program ({named}): set it to the path of frwkv, or unset it")
        return program
    built = [root / place for place in BUILT]
    return next((str(p) for p in built if p.is_file() and os.access(p, os.X_OK)), shutil.which("frwkv"))


def main(arguments):
    if len(arguments) < 2 or any(a in ("-h", "--help") for a in arguments):
        print(__doc__.strip(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    program = find_program()
    if program is None:
        print(f"error: the program frwkv is not built: run\n  cd {root} && {HOW_TO_BUILD}", file=sys.stderr)
        return 1
    try:
        code = subprocess.call([program, "convert", *arguments])
    except OSError as problem:
        print(f"error: {program} does not start: {problem.strerror}", file=sys.stderr)
        return 1
    return code if code >= 0 else 128 - code  # as a shell says it


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
