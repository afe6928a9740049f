from pathlib import Path

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
