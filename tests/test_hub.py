"""Sharing a model: huggingface_hub's real client, pushing to and opening from a server on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_stand_in import TOKEN, Hub, stand_in

from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline

SOURCE = "how do i learn to cook rice?"
_PUSH_AND_OPEN = """
import json, sys
from diffuseq import DiffuSeqPipeline, InputError

mine = DiffuSeqPipeline.from_pretrained(sys.argv[1])
try:
    address = mine.push_to_hub("me/tiny", private=True, commit_message="A tiny model")
    theirs = DiffuSeqPipeline.from_pretrained("me/tiny")
    answer = theirs(sys.argv[2], seed=3)
    print(json.dumps({"address": address, "candidates": answer.candidates}))
except InputError as error:
    print(json.dumps({"problem": str(error)}))
"""
"""In a process of its own: the client reads the address of its hub when it is imported."""


def push_and_open(folder: Path, hub: Hub, home: Path, token: str) -> dict[str, object]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",  # the stand-in speaks LFS, which every hub speaks
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    command = [sys.executable, "-c", _PUSH_AND_OPEN, str(folder), SOURCE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_a_model_that_is_pushed_opens_by_its_hub_name_and_answers_the_same(
    tiny_folder: Path, tiny_pipe: DiffuSeqPipeline, tmp_path: Path
) -> None:
    with stand_in() as hub:
        told = push_and_open(tiny_folder, hub, tmp_path, TOKEN)
    assert told == {
        "address": f"{hub.address}/me/tiny",
        "candidates": tiny_pipe(SOURCE, seed=3).candidates,
    }
    assert hub.private == {"me/tiny": True}
    assert hub.over_lfs == {"model.safetensors"}
    pushed = hub.repositories["me/tiny"]
    local = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
    assert pushed.keys() == local.keys()
    assert pushed["model.safetensors"] == local["model.safetensors"]
    assert pushed["README.md"].startswith(b"---\n")


def test_a_wrong_token_is_one_sentence(tiny_folder: Path, tmp_path: Path) -> None:
    with stand_in() as hub:
        told = push_and_open(tiny_folder, hub, tmp_path, "hf_wrong")
    assert "Cannot push to 'me/tiny'" in str(told["problem"])
    assert "your token" in str(told["problem"])
    assert hub.repositories == {}


def test_a_mistyped_option_is_refused_before_there_is_a_repository(tiny_pipe: DiffuSeqPipeline) -> None:
    with pytest.raises(InputError, match=r"Unknown option 'privat'; .* Did you mean 'private'\?"):
        tiny_pipe.push_to_hub("me/tiny", privat=True)


def test_the_stand_in_refuses_what_does_not_have_the_hash_that_it_says() -> None:
    httpx = pytest.importorskip("httpx")
    with stand_in() as hub:
        assert httpx.put(f"{hub.address}/upload/{'0' * 64}", content=b"else").status_code == 400
