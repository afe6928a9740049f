"""The GPU script in its dry run: every phase, the end of a call, and going on from there."""

import importlib.util
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import gpu_measure
import pytest
import torch
from safetensors import safe_open

from diffuseq.errors import InputError
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.plain import to_dict

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
spec = importlib.util.spec_from_file_location("gpu_script", SCRIPT)
gpu = importlib.util.module_from_spec(spec)
sys.modules["gpu_script"] = gpu
spec.loader.exec_module(gpu)


def call(folder, **changes):
    """A dry call with the built-in corpus."""
    values = {
        "data": folder / "data",
        "work": folder / "work",
        "out": folder / "out",
        "deadline": time.monotonic() + 600,
        "every_minutes": 0.0,
        "rows": 3,
        "dry": True,
    }
    made = gpu.Call(**{**values, **changes})
    gpu._make_data(made)
    return made


def job(name):
    """A job of any phase, small."""
    jobs = [job for make, minutes in gpu.JOBS.values() for job in make(minutes)]
    return gpu.shrink(next(job for job in jobs if job.name == name))


def test_the_headline_is_trained_measured_and_kept(tmp_path):
    arguments = ["--dry-run", "--phases", "headline", "--final", "--out", str(tmp_path)]
    assert gpu.main(arguments) == 0
    found = json.loads((tmp_path / "headline.json").read_text())
    assert found["training"]["steps"] == 4
    assert found["curve"][0]["scores"]["bleu"] >= 0
    assert set(found["test"]) == {"own settings"}
    dials = {f"{calls} calls" for calls in gpu_measure.CALLS} | {
        f"{count} candidates" for count in gpu_measure.CANDIDATES
    }
    assert set(found["valid"]) == {"own settings"} | dials
    assert found["valid"]["20 calls"]["cost"]["forwards"] == 20
    pipe = DiffuSeqPipeline.from_pretrained(tmp_path / "headline")
    assert pipe("how do i learn to cook ?").text
    shards = sorted((tmp_path / "headline").glob("*.safetensors"))
    assert all(shard.stat().st_size <= 1.01 * gpu.SHARD_BYTES for shard in shards)
    with safe_open(shards[0], "pt") as opened:
        assert opened.get_tensor(next(iter(opened.keys()))).dtype == torch.bfloat16
    before = (tmp_path / "headline.json").read_text()
    assert gpu.main(arguments) == 0
    assert (tmp_path / "headline.json").read_text() == before


def test_a_model_goes_on_with_those_of_other_jobs_as_teachers(tmp_path):
    arguments = ["--dry-run", "--phases", "headline,baselines,taught", "--out", str(tmp_path)]
    assert gpu.main([*arguments, "--only", "headline,transformer-medium,taught"]) == 0
    training = json.loads((tmp_path / "work" / "taught" / "config.json").read_text())["training"]
    assert training["start_from"] == str(tmp_path / "work" / "headline")
    assert [Path(name).name for name in training["teachers"]] == ["headline", "transformer-medium"]


def test_what_other_jobs_trained_writes_together(tmp_path):
    arguments = ["--dry-run", "--out", str(tmp_path)]
    waiting = [*arguments, "--phases", "headline,ensembles", "--only", "headline,ensemble-twice"]
    assert gpu.main(waiting) == 75
    assert not (tmp_path / "work" / "ensemble-twice").exists()
    everything = ["--phases", "headline,baselines,again,ensembles"]
    names = "headline,again,transformer-medium,ensemble-twice,ensemble-with-transformer"
    assert gpu.main([*arguments, *everything, "--only", names]) == 0
    for name, kind in (("ensemble-twice", "diffuseq"), ("ensemble-with-transformer", "transformer")):
        pipe = DiffuSeqPipeline.from_pretrained(tmp_path / "work" / name)
        assert [member.kind for member in pipe.system.config.members] == ["diffuseq", kind]
        found = json.loads((tmp_path / f"{name}.json").read_text())
        assert found["valid"]["5 calls"]["cost"]["forwards"] == 5
        assert (tmp_path / name / "valid.predictions.jsonl").exists()
        assert not (tmp_path / name / "config.json").exists()  # the members are kept, by themselves


@dataclass
class Impatient(gpu.Call):
    """A call that is over after it has been asked a few times."""

    patience: int = 2

    @property
    def is_over(self):
        self.patience -= 1
        return self.patience < 0


def test_a_call_that_is_over_saves_and_the_next_goes_on(tmp_path):
    place = call(tmp_path)
    short = Impatient(**vars(place), patience=2)
    transformer = job("transformer")
    assert not gpu.run_job(transformer, short)
    assert list((place.work / "transformer" / "resume").glob("step-*"))
    assert not (place.work / "transformer" / "training.json").exists()
    assert gpu.run_job(transformer, place)
    found = json.loads((place.out / "transformer.json").read_text())
    assert found["training"]["steps"] == 4
    assert set(found["valid"]) == {"own settings", "10 samples"}


def test_a_call_without_time_does_nothing_and_asks_for_another(tmp_path):
    arguments = ["--dry-run", "--out", str(tmp_path), "--call-minutes", "0", "--phases", "headline,speed"]
    assert gpu.main(arguments) == 75
    assert not list(tmp_path.glob("work/headline/*.safetensors"))


@pytest.mark.parametrize(
    "name", ["gru", "levt", "cmlm", "gpt2-from-scratch", "ablation-all-seen-self-conditioning"]
)
def test_every_kind_of_system_goes_through(name, tmp_path):
    place = call(tmp_path, final=True)
    assert gpu.run_job(job(name), place)
    found = json.loads((place.out / f"{name}.json").read_text())
    assert found["valid"]["own settings"]["rows"]["chosen"]["bleu"] >= 0
    assert ("test" in found) == (not name.startswith("ablation"))


def test_ablations_change_one_thing_and_keep_the_budget():
    base, *others = gpu.JOBS["ablations"][0](6.0)
    assert len({json.dumps(to_dict(other.config)) for other in others}) == len(others) == 22
    for other in others:
        assert other.config != base.config
        assert other.config.training.minutes == base.config.training.minutes == 6.0


def test_a_missing_data_set_is_left_out_and_told(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--phases", "tasks"]
    assert gpu.main(arguments) == 0
    assert "task-dialogue is left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--phases", "headlin"], "Did you mean 'headline'"), ([], "Give --data")],
)
def test_mistakes_are_told_in_one_sentence(flags, message, tmp_path):
    with pytest.raises(InputError, match=message):
        gpu.main(["--out", str(tmp_path), *flags])


def test_jobs_side_by_side(tmp_path, capsys):
    arguments = ["--dry-run", "--phases", "headline,baselines", "--out", str(tmp_path), "--together"]
    assert gpu.main([*arguments, "--only", "headline,transformer-medium"]) == 0
    for name in ("headline", "transformer-medium"):
        assert json.loads((tmp_path / f"{name}.json").read_text())["training"]["steps"] == 4
    assert not (tmp_path / "gru.json").exists()
    assert "transformer-medium: done" in capsys.readouterr().out
    with pytest.raises(InputError, match="transformer-medium"):
        gpu.main([*arguments, "--only", "headline,transformer-medum"])
    with pytest.raises(InputError, match="at least two"):
        gpu.main([*arguments, "--only", "headline"])


@pytest.mark.parametrize("new", ["work", "out"])
def test_what_a_dry_run_left_is_not_taken_for_a_real_one(new, tmp_path):
    """Neither the model nor the scores."""
    arguments = ["--phases", "baselines", "--only", "gru", "--work", str(tmp_path / "work")]
    assert gpu.main([*arguments, "--dry-run", "--out", str(tmp_path / "out")]) == 0
    places = {"work": tmp_path / "work", "out": tmp_path / "out", new: tmp_path / "other"}
    arguments = ["--phases", "baselines", "--only", "gru", "--data", str(tmp_path / "work" / "data")]
    with pytest.raises(InputError, match=r"'steps': 4.*, not of .*'minutes': 2.0.*give another"):
        gpu.main([*arguments, "--work", str(places["work"]), "--out", str(places["out"])])


def test_jobs_by_name_leave_the_speed_of_the_machine_alone(tmp_path):
    arguments = ["--dry-run", "--phases", "baselines,speed", "--only", "gru", "--out", str(tmp_path)]
    assert gpu.main(arguments) == 0
    assert (tmp_path / "gru.json").exists() and not (tmp_path / "speed.json").exists()


def test_scores_of_other_rows_are_not_taken_for_those_of_now(tmp_path):
    arguments = ["--phases", "headline", "--dry-run", "--no-dials", "--out", str(tmp_path)]
    assert gpu.main(arguments) == 0
    place = call(tmp_path, data=tmp_path / "work" / "data", out=tmp_path, rows=5)
    with pytest.raises(InputError, match=r"headline.json is of --rows 3, not 5; give another --out"):
        gpu.run_job(job("headline"), place)
    found = json.loads((tmp_path / "headline.json").read_text())
    (tmp_path / "headline.json").write_text(json.dumps({"curve": found["curve"]}))
    with pytest.raises(InputError, match="of --rows 3, not 5"):
        gpu.run_job(job("headline"), place)
    assert gpu.run_job(job("headline"), call(tmp_path, data=place.data, out=tmp_path, dials=False))


def test_the_speed_of_a_dry_run_is_not_taken_for_a_real_one(tmp_path):
    place = call(tmp_path, deadline=time.monotonic() - 1)
    assert not gpu.run_speed(place)
    with pytest.raises(InputError, match=r"speed.json is of --dry-run True, not False"):
        gpu.run_speed(replace(place, dry=False))
