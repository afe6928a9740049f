"""How this program was called, for commands that are printed to be repeated from the same folder."""

from __future__ import annotations

import os
import shlex
import shutil
import sys

from diffuseq.files import same_place


def program() -> str:
    """`diffuseq` where the shell finds this one by that name, else the path it was called by, else `python -m`."""
    called = sys.argv[0]
    if os.path.basename(called) != "diffuseq":
        return f"{shlex.quote(sys.executable)} -m diffuseq"
    found = shutil.which("diffuseq")
    return "diffuseq" if found is not None and same_place(found, called) else shlex.quote(called)
