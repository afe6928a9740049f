"""benchmarks/tasks.py: its splits, its commands, and that it knows what is done already."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from diffuseq.cli.train import parse
from diffuseq.errors import InputError
from diffuseq.evaluation.catalogue import find_task

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tasks.py"


@pytest.fixture(scope="module")
def tasks():
    spec = importlib.util.spec_from_file_location("tasks_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def write(path, sources):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"src": s, "trg": f"t {s}"}) + "\n" for s in sources))


def test_held_out_rows_share_no_source_with_training(tasks):
    rows = [{"src": s} for s in "aabbbcda"]
    train, valid = tasks.hold_out(rows, 4)
    assert [row["src"] for row in valid] == ["c", "d", "a"]
    assert [row["src"] for row in train] == ["b", "b", "b"]


def test_rows_of_labels_are_left_out_and_counted_and_the_test_is_its_first_rows(tasks, tmp_path):
    for split in ("train", "valid", "test"):
        write(tmp_path / "dialogue" / f"{split}.jsonl", ["hello", "1 2 1", "good day", "bye"])
    said = tasks.prepare("dialogue", tmp_path, tmp_path / "out", rows=2)
    assert "train 3" in said and "test 2" in said and "3 rows without a letter" in said
    kept = (tmp_path / "out" / "data" / "dialogue" / "test.jsonl").read_text().splitlines()
    assert [json.loads(line)["src"] for line in kept] == ["hello", "good day"]


@pytest.mark.parametrize("line", ["{", "[]", '{"src": "a"}', '{"src": "a", "trg": null}'])
def test_a_row_without_its_texts_is_told_with_its_place(tasks, tmp_path, line):
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "trg": "b"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"rows.jsonl.*2 is no JSON object with the texts src and trg"):
        tasks.read(tmp_path / "rows.jsonl")


def test_every_task_has_its_metrics_and_every_training_command_its_options(tasks, tmp_path):
    for name, data in tasks.TASKS.items():
        assert find_task(name).name in tasks.OWN_METRIC
        for system, base in tasks.SYSTEMS.items():
            verb, recipe, *flags = tasks.Run(name, system, tmp_path, 3, 5).next_command()
            assert (verb, recipe) == ("train", base)
            options = parse(recipe, flags)
            assert options.training.minutes == 3
            assert options.training.both_directions == data.both_directions == (name == "qqp")
            assert options.text.lowercase == (name != "multi30k_de_en")
            assert options.system.max_length >= options.text.max_target


def test_a_run_does_next_what_is_not_done_yet(tasks, tmp_path):
    run = tasks.Run("qqp", "diffuseq", tmp_path, 3, 5)
    run.folder.mkdir(parents=True)
    for verb, file in (
        ("train", "training.json"),
        ("generate", "predictions.jsonl"),
        ("evaluate", "scores.json"),
    ):
        assert run.next_command()[0] == verb
        (run.folder / file).write_text("{}")
        run.done(verb)
    assert run.next_command() is None
    assert tasks.Run("qqp", "diffuseq", tmp_path, 3, 9).next_command()[0] == "generate"
    (run.folder / "training.json").unlink()
    again = run.next_command()
    assert again[0] == "train" and "--resume" in again
    run.done("train")
    (run.folder / "training.json").write_text("{}")
    assert run.next_command()[0] == "generate"


def test_a_training_of_other_minutes_is_refused_and_stays(tasks, tmp_path):
    write(tmp_path / "dialogue" / "train.jsonl", ["hello"])
    run = tasks.Run("dialogue", "diffuseq", tmp_path / "out", 3, 5)
    run.begin()
    (run.folder / "training.json").write_text("{}")
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "out"), "--tasks", "dialogue"]
    with pytest.raises(InputError, match=r"dialogue/diffuseq is of --minutes 3, not 10; give another --out"):
        tasks.main(arguments)
    assert (run.folder / "training.json").exists()
    assert not (tmp_path / "out" / "data").exists()
    run.check_minutes()


def test_answers_of_other_data_are_refused_and_stay(tasks, tmp_path):
    for name in ("one", "other"):
        for split in ("train", "valid", "test"):
            write(tmp_path / name / "dialogue" / f"{split}.jsonl", [f"{name} {split}"])
    tasks.prepare("dialogue", tmp_path / "one", tmp_path / "out", rows=2)
    tasks.note_asked(tmp_path / "out", {"data": str(tmp_path / "one")})
    arguments = ["--data", str(tmp_path / "other"), "--out", str(tmp_path / "out"), "--tasks", "dialogue"]
    with pytest.raises(InputError, match=r"out is of --data .*one, not .*other; give another --out"):
        tasks.main(arguments)
    assert "one test" in (tmp_path / "out" / "data" / "dialogue" / "test.jsonl").read_text()


def test_an_unknown_task_is_refused(tasks, tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'dialogue'"):
        tasks.main(["--data", str(tmp_path), "--tasks", "dialog"])
