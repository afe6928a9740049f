from pathlib import Path
from typing import Any

import pytest

from diffuseq.cli.evaluate import main
from diffuseq.errors import InputError
from diffuseq.evaluation.predictions import Prediction, write_predictions


@pytest.mark.parametrize("named", ["run", "run/predictions.jsonl"])
def test_the_scores_do_not_take_the_place_of_the_predictions(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("run/predictions.jsonl")
    write_predictions(path, [Prediction("a b", ("b a",), ("b a", "a a"))])
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"run/predictions.jsonl is what is read; give --json another name"):
        main([named, "--metrics", "bleu", "--json", str(path)])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--card", "nowhere"], "There is no model card nowhere/README.md"),
        (["--nll-calls", "5"], "--nll-calls and --nll-rounds do nothing without --nll"),
        (
            ["--bertscore-layer", "3"],
            "bertscore_layer is 3, but nothing that is measured needs it; add bertscore",
        ),
        (["--bertscore-model", "x"], "bertscore_model is x, but nothing that is measured needs it"),
        (["--language-model", "x"], "language_model is x, but nothing .* needs it; add perplexity or mauve"),
        (["--nll", "nowhere"], "There is no model folder 'nowhere'"),
        (["--nll", "qqp-transformer"], "'transformer' has no variational bound"),
        (["--nll", "grammar", "--nll-rounds", "1"], "rounds is 1; give a whole number of at least 2"),
    ],
)
def test_what_cannot_be_done_at_the_end_is_refused_before_anything_is_scored(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_predictions(Path("run/predictions.jsonl"), [Prediction("a b", ("b a",), ("b a", "a a"))])
    with pytest.raises(InputError, match=message):
        main(["run", "--metrics", "bleu", *options])
    assert capsys.readouterr().out == ""
