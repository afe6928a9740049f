"""Every command and every block of Python in the documentation is real."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys

import pytest
import tyro
from pages import DOCS, PAGES, ROOT, Command, blocks, commands, flags, inline_commands

from diffuseq.cli import VERBS, main
from diffuseq.data.grammar import build_corpus
from diffuseq.recipes import DIFFUSION, RECIPES

BUDGETS = [
    (r"--training\.minutes \S+", "--training.minutes 0.02"),
    (r"--limit \d+", "--limit 2"),
    (r"build_corpus\(30_000\)", "build_corpus(300, 30, 30)"),
]
"""The tutorial as it stands, with less of everything."""
README_BUDGETS = [(r"--training\.minutes \S+", "--training.minutes 0.02 --training.evaluate-rows 2")]
SMALL_RUN = " ".join(
    [
        "train qqp-paper --training.steps 2 --training.batch-size 4 --training.accumulate 1",
        "--training.evaluate-rows 2 --system.layers 1 --system.width 32 --system.heads 2 --system.feed-forward 32",
        "--text.vocab-size 300 --text.tokenizer None --generation.steps 2 --generation.candidates 2",
    ]
)
PUBLISHED_BUDGETS = [
    (r"train qqp-paper(?=.*--out)", SMALL_RUN),
    (r"(?<=out/predictions\.jsonl) --candidates 10$", " --candidates 2 --limit 2 --steps 2"),
    (r"(?<=paper/predictions\.jsonl)$", " --candidates 2 --limit 2 --steps 2"),
]
"""The commands for published models, at a size that a test can bear."""


class Shell:
    """Runs the commands of a page: `diffuseq` and Python in this process, servers and what asks them beside it.

    Set-up (pip, python -m venv, source, make, head) is left out.
    """

    def __init__(self, monkeypatch):
        self.monkeypatch, self.server, self.answers = monkeypatch, None, []

    def run(self, command):
        arguments = command.diffuseq
        if command.words[:2] == ["python", "-c"]:
            exec(compile(command.words[2], "tutorial.md", "exec"), {})
        elif command.words[0] == "curl":
            words = [word.replace("localhost:8000", self.address) for word in command.words]
            asked = subprocess.run([*words, "--fail", "--max-time", "60"], capture_output=True, check=True)
            self.answers.append(json.loads(asked.stdout))
        elif arguments is not None and arguments[0] == "serve":
            self.serve(arguments)
        elif arguments is not None:
            piped = io.TextIOWrapper(io.BytesIO(((command.piped or "") + "\n").encode()), encoding="utf-8")
            self.monkeypatch.setattr(sys, "stdin", piped)
            with pytest.raises(SystemExit) as left:
                main(arguments)
            assert not left.value.code, arguments

    def serve(self, arguments):
        """Start the server of the page, at a free port."""
        self.close()
        words = [sys.executable, "-m", "diffuseq", *arguments, "--port", "0"]
        self.server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        said = self.server.stderr.readline()
        assert said.startswith("Open http://"), said + self.server.stderr.read()
        self.address = said.split()[1].removeprefix("http://").rstrip(";")

    def close(self):
        if self.server is not None:
            self.server.terminate()
            self.server.communicate(timeout=30)
            self.server = None


@pytest.fixture
def shell(monkeypatch):
    if shutil.which("curl") is None:
        pytest.skip("the pages ask a server with curl, which is not here")
    shell = Shell(monkeypatch)
    yield shell
    shell.close()


class ParsedError(Exception):
    """Raised in the place of what a verb does once its options are read."""


@pytest.fixture
def parse_only(monkeypatch):
    """Commands end as soon as the real parser has taken their options."""
    real = tyro.cli

    def stop(*arguments, **options):
        real(*arguments, **options)
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", stop)


def on_the_page(page):
    return f"{page.relative_to(ROOT)}"


def read_options(command, model):
    """Run a command up to the point where its options are read."""
    arguments = command.diffuseq
    assert arguments, f"{command.words} names no verb"
    if arguments[0] == "train" and arguments[1] not in RECIPES:
        arguments = ["train", str(model), *arguments[2:]]
    if arguments[0] == "generate":
        named = len(arguments) > 1 and not arguments[1].startswith("-")
        arguments = ["generate", str(model), *arguments[1 + named :]]
    with pytest.raises(ParsedError):
        main(arguments)


@pytest.mark.parametrize("page", PAGES, ids=on_the_page)
def test_every_command_is_understood_by_the_command_line(page, parse_only, tiny_folder):
    for command in commands(page):
        if command.diffuseq is not None:
            read_options(command, tiny_folder)
    for command in inline_commands(page):
        assert command.diffuseq[0] in VERBS
        if any(word.startswith("--") and word != "--help" for word in command.words):
            read_options(command, tiny_folder)


def test_a_wrong_flag_on_a_page_would_be_noticed(parse_only, tiny_folder):
    with pytest.raises(SystemExit):
        read_options(Command(["diffuseq", "serve", "runs/mine", "--prot", "8000"]), tiny_folder)
    with pytest.raises(SystemExit):
        read_options(Command(["diffuseq", "trian", "tiny"]), tiny_folder)


def test_commands_are_found_on_the_pages():
    found = [c.diffuseq[0] for page in PAGES for c in commands(page) if c.diffuseq]
    assert {"prepare", "train", "generate", "evaluate", "compare", "serve", "import", "replay"} <= set(found)
    assert set(found) <= set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=on_the_page)
def test_every_field_of_a_config_that_is_named_exists(page):
    known = {
        f"--{part}.{name.replace('_', '-')}"
        for make in RECIPES.values()
        for part, value in vars(make()).items()
        for name in vars(value)
    }
    known |= {flag.replace(".", ".no-", 1) for flag in known}
    named = flags(page, r"(?:system|text|training|generation)\.[a-z0-9-]+")
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=on_the_page)
def test_every_make_target_that_is_named_exists(page):
    for command in commands(page):
        if command.words[0] == "make":
            subprocess.run([*command.words, "--dry-run"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_the_requests_of_the_pages_fit_the_api():
    from diffuseq.web.schema import AskMany

    requests = [c.words for page in PAGES for c in commands(page) if c.words[0] == "curl"]
    assert requests
    for words in requests:
        assert any(word.endswith("/v1/generate") for word in words)
        AskMany.model_validate(json.loads(words[words.index("-d") + 1]))


def test_the_tutorial_runs_as_it_stands(tmp_path, monkeypatch, capsys, shell):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # so that no heading of a table is broken over lines
    page = shortened(DOCS / "tutorial.md", BUDGETS, tmp_path)
    for command in commands(page):
        shell.run(command)
    for block in blocks(page, "python"):
        exec(compile(block, "tutorial.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "0 of 30 test sources also stand in the training set" in printed
    assert "copy the source" in printed
    assert (tmp_path / "report" / "report.html").is_file()
    scores = json.loads((tmp_path / "runs" / "mine" / "scores.json").read_text())
    assert scores["sources"] == 2
    (said,) = shell.answers[0]["answers"]
    assert said["text"] in said["candidates"] and len(said["candidates"]) == 4


def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path, monkeypatch, capsys, shell):
    monkeypatch.chdir(tmp_path)
    rows = [("question", "paraphrase"), *((row["src"], row["trg"]) for row in build_corpus(400)["train"])]
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    for command in commands(shortened(ROOT / "README.md", README_BUDGETS, tmp_path)):
        shell.run(command)
    assert json.loads((tmp_path / "runs" / "mine" / "scores.json").read_text())["sources"] > 0
    assert "step 10/10" in capsys.readouterr().out


def test_the_commands_for_those_who_come_from_the_official_code_run(tmp_path, monkeypatch, capsys, shell):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # so that no heading of a table is broken over lines
    write_official_files(tmp_path)
    for command in commands(shortened(DOCS / "coming-from-official.md", PUBLISHED_BUDGETS, tmp_path)):
        shell.run(command)
    assert len((tmp_path / "models" / "qqp-paper" / "predictions.jsonl").read_text().splitlines()) == 2
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 2
    assert "copy the source" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in DIFFUSION if name != "qqp-pretrained"])
def test_the_command_of_every_recipe_trains(name, tmp_path, monkeypatch, shell):
    """With the smallest network that there is. `qqp-pretrained` wants BERT; its own test has a small one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    for split, rows in build_corpus(40, 4, 0).items():
        (tmp_path / "DIR" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (command,) = (c for c in commands(DOCS / "recipes.md") if c.diffuseq[:2] == ["train", name])
    small = {
        **{f"--system.{size}": 16 for size in ("width", "feed-forward")},
        "--system.heads": 2,
        "--system.embedding-width": 8,
        "--text.tokenizer": None,
        "--text.vocab-size": 300,
        "--training.steps": 1,
        "--training.minutes": None,
        "--training.batch-size": 4,
        "--training.accumulate": 1,
        "--training.evaluate-rows": 0,
        "--data": "DIR",
        "--out": "run",
    }
    if RECIPES[name]().system.kind == "published":
        small |= {"--system.layers": 1, "--system.time-width": 8}
    else:
        small |= {"--system.encoder-layers": 1, "--system.decoder-layers": 1}
    words = [word for word in command.words if word not in ("--data", "DIR")]
    options = [f"{part}" for pair in small.items() for part in pair]
    shell.run(Command([*words, *options]))
    assert (tmp_path / "run" / "model.safetensors").is_file()


def write_official_files(folder):
    """Quora's release, a published model and its output files, all small, where the page has them."""
    heading = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
    pairs = enumerate(build_corpus(8000)["train"])
    rows = [heading, *((i, 2 * i, 2 * i + 1, row["src"], row["trg"], 1) for i, row in pairs)]
    with (folder / "quora_duplicate_questions.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    shutil.copytree(ROOT / "tests" / "parity" / "official-tiny", folder / "diffusion_models" / "diffuseq_qqp")
    outputs = folder / "generation_outputs"
    outputs.mkdir()
    row = {"recover": "[CLS] ba du [SEP]", "reference": "[CLS] ba du ki [SEP]", "source": "[CLS] ki du [SEP]"}
    for seed in (101, 102):
        (outputs / f"seed{seed}_step0.json").write_text(f"{json.dumps(row)}\n" * 3)


def shortened(page, budgets, folder):
    """A copy of a page, with less of what takes long."""
    text = page.read_text()
    for pattern, smaller in budgets:
        assert re.search(pattern, text, re.MULTILINE), pattern
        text = re.sub(pattern, smaller, text, flags=re.MULTILINE)
    copy = folder / page.name
    copy.write_text(text)
    return copy


@pytest.mark.filterwarnings("error::diffuseq.cuts.CutWarning")
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = blocks(ROOT / "README.md", "python")
    assert found
    for block in found:
        block = block.replace(
            'from_pretrained("runs/demo")', 'from_pretrained("grammar")'
        )  # what a demo makes
        exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=on_the_page)
def test_the_python_of_every_page_is_python(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
