"""What a process is started on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import launch
import pytest
import torch
from accelerate.utils import DistributedType

from diffuseq.training import engine


@pytest.mark.parametrize(("device", "current"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_the_gpu_of_a_process_is_the_current_one(
    device: str, current: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def accelerator(**settings: Any) -> Any:
        return SimpleNamespace(device=torch.device(device), distributed_type=DistributedType.NO)

    monkeypatch.setattr(engine, "Accelerator", accelerator)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: made.append(str(device)))
    engine.make_accelerator()
    assert made == current


def test_the_only_process_of_a_launcher_is_wrapped_as_several_are(tmp_path: Path) -> None:
    """Which is why CUDA graphs go by that and not by the number of processes."""
    text = """
import torch
from accelerate.utils import DistributedType
from diffuseq.training.engine import make_accelerator

accelerator = make_accelerator()
assert accelerator.num_processes == 1
assert accelerator.distributed_type != DistributedType.NO
assert type(accelerator.prepare(torch.nn.Linear(1, 1))).__name__ == "DistributedDataParallel"
"""
    launch.run(launch.torchrun(1, launch.script(tmp_path, text)))
