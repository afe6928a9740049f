"""`diffuseq serve [MODEL]`: the page on which texts form, and the API behind it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from diffuseq.config import Precision, Runtime
from diffuseq.errors import InputError
from diffuseq.models import EXAMPLES, SHIPPED
from diffuseq.names import shown

_EXAMPLES = """\
examples:
  diffuseq serve runs/qqp --port 8000
  diffuseq serve runs/qqp --compare runs/transformer      an autoregressive baseline beside it
  curl -s localhost:8000/v1/generate -H 'content-type: application/json' -d '{"source": "How are you?"}'
"""
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclasses.dataclass(frozen=True)
class Serve:
    """Serve a model: a page to watch texts form, and an API."""

    model: Annotated[str, tyro.conf.Positional] = SHIPPED
    """A model folder, a hub name, or a model that comes with the package: qqp (Quora questions), qqp-large,
    qqp-pair (both together: better answers, in twice the time), qqp-transformer (the same by an
    autoregressive system), qqp-three (all of them: the best, in three times the time) or grammar (the built-in
    corpus)."""
    compare: str | None = None
    """A second model to show beside it, say an autoregressive baseline."""
    host: str = "127.0.0.1"
    """Where to listen; only this machine reaches the default."""
    port: int = 8000
    """0 takes a free one."""
    device: str | None = None
    """cpu, cuda, cuda:1, …; a GPU where there is one."""
    runtime: Runtime = "torch"
    """onnx computes MODEL with ONNX Runtime on the CPU; `diffuseq export` makes it ready for that."""
    precision: Precision = "auto"
    """bf16 where it is faster and the model is large (auto), never (fp32), or always."""


def main(argv: Sequence[str]) -> int:
    options = tyro.cli(
        Serve, args=list(argv), prog="diffuseq serve", description=f"{Serve.__doc__}\n\n{_EXAMPLES}"
    )
    try:
        import fastapi
        import uvicorn  # noqa: F401
    except ImportError:
        raise InputError("`diffuseq serve` needs fastapi and uvicorn: pip install 'diffuseq[web]'.") from None
    del fastapi
    from diffuseq.web.api import create_app
    from diffuseq.web.server import bind, run

    listener = bind(options.host, options.port)
    pipes = {"main": _open(options.model, options.device, options.precision, options.runtime)}
    titles = {"main": _title(options.model)}
    if options.compare is not None:
        pipes["compare"] = _open(options.compare, options.device, options.precision)
        titles["compare"] = _title(options.compare)
    hosts = _LOOPBACK if options.host in ("127.0.0.1", "localhost", "::1") else None
    examples = {"main": EXAMPLES[options.model]} if options.model in EXAMPLES else {}
    app = create_app(pipes, titles, hosts=hosts, examples=examples)
    run(app, listener, lambda address: print(f"Open {address}; Ctrl-C stops.", file=sys.stderr, flush=True))
    return 0


def _open(name: str, device: str | None, precision: Precision, runtime: Runtime = "torch") -> Any:
    """The pipeline, warmed up, so that the first visitor does not wait."""
    from diffuseq.pipeline import DiffuSeqPipeline

    pipe = DiffuSeqPipeline.from_pretrained(name, device, runtime, precision)
    changes = {"steps": 1} if hasattr(pipe.config.generation, "steps") else {}
    pipe("warm", **changes)
    return pipe


def _title(name: str) -> str:
    return name if name in EXAMPLES else shown(Path(name).resolve().name)
