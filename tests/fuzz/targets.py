"""What is fuzzed: every reader of files or settings, by name.

A target takes a `random.Random`, which draws the case, and an empty folder to work in. It may raise
`InputError`; whatever else leaves it is a finding.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import pickle
import random
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile
import torch

from diffuseq.checks import check_generation
from diffuseq.config import Config, DiffuSeqConfig, DiffusionGeneration, TextConfig
from diffuseq.pipeline import DiffuSeqPipeline
from diffuseq.plain import to_dict
from diffuseq.systems.diffuseq import DiffuSeq
from diffuseq.text.tokenizer import Tokenizer

PUBLISHED = Path(__file__).parents[1] / "parity" / "official-tiny"
SENTENCES = [
    "how do i learn to cook rice?",
    "what is the best way to learn python?",
    "why do people like music so much?",
    "where can we find good tea, coffee and bread?",
]
PAIRS = [{"src": text, "trg": text[::-1], "refs": [text, "x"]} for text in SENTENCES]
LARGEST_OUTPUT = 50


@dataclass(frozen=True)
class Target:
    """A reader under test.

    share: of all cases, relative to the other targets (cheap ones get more); names_outputs: its input says
    where to write.
    """

    case: Callable[[random.Random, Path], None]
    share: int
    names_outputs: bool = False


TARGETS: dict[str, Target] = {}


def target(share: int) -> Callable[[Callable[[random.Random, Path], None]], Callable[..., None]]:
    def add(case: Callable[[random.Random, Path], None]) -> Callable[..., None]:
        TARGETS[case.__name__] = Target(case, share)
        return case

    return add


# Good input to start from


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SENTENCES * 3, vocab_size=120)


@functools.cache
def pipeline() -> DiffuSeqPipeline:
    """Our system in tiny, untrained."""
    torch.manual_seed(0)
    system = DiffuSeqConfig(
        encoder_layers=1,
        decoder_layers=1,
        heads=2,
        width=16,
        feed_forward=16,
        embedding_width=8,
        max_length=16,
    )
    generation = DiffusionGeneration(candidates=2, sampler="settle", steps=2, length_beam=2)
    config = Config(system, TextConfig(max_source=16, max_target=16), generation=generation)
    return DiffuSeqPipeline(DiffuSeq(system, tokenizer().special).eval(), tokenizer(), config)


@functools.cache
def model_files() -> dict[str, bytes]:
    """The files of a whole model folder."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline().save_pretrained(folder)
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@functools.cache
def published_files() -> dict[str, bytes]:
    names = ("bert_config.json", "ema_0.9999_000100.pt", "training_args.json", "vocab.json")
    return {name: (PUBLISHED / name).read_bytes() for name in names}


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def perhaps(draw: random.Random, good: str) -> str:
    """The good text, now and then another."""
    return hostile.text(draw) if draw.random() < 0.1 else good


def damage_json_file(draw: random.Random, path: Path) -> None:
    """Damage a JSON file as a value, and sometimes as bytes."""
    content = hostile.to_json(hostile.damaged_json(draw, json.loads(path.read_bytes()))).encode()
    path.write_bytes(hostile.damaged_bytes(draw, content) if draw.random() < 0.2 else content)


def damage_folder(draw: random.Random, folder: Path) -> None:
    """What happens to whole files: one is gone, empty, a folder, a link into nothing, to itself, or away."""
    path = draw.choice(sorted(folder.iterdir()))
    path.unlink()
    match draw.randint(0, 5):
        case 1:
            path.write_bytes(b"")
        case 2:
            path.mkdir()
        case 3:
            path.symlink_to("nothing-here")
        case 4:
            path.symlink_to(path.name)
        case 5:
            path.symlink_to(
                draw.choice(["/dev/null", "/dev/zero", "/dev/full", "/etc/passwd", "/proc/self/mem"])
            )


# Data


@target(20)
def pairs(draw: random.Random, folder: Path) -> None:
    """jsonl of pairs and of sources, plain text, .gz."""
    from diffuseq.data.pairs import read_pairs, read_questions

    rows: list[Any] = draw.choice(
        [
            PAIRS,
            [{"source": "a b", "target": "c"}],
            [{"translation": {"de": "ja", "en": "yes"}}],
            [{"src": "a"}],
        ]
    )
    data = hostile.damaged_lines(draw, rows)
    name = draw.choice(("a.jsonl", "a.jsonl.gz", "a.txt", "a"))
    if name.endswith("gz"):
        data = gzip.compress(data, 1, mtime=0)
        data = hostile.damaged_bytes(draw, data) if draw.random() < 0.5 else data
    (folder / name).write_bytes(data)
    skip = draw.random() < 0.5
    read = draw.choice((read_pairs, read_questions))
    for _ in read(folder / name, skip_bad_rows=skip):
        pass


@target(12)
def tables(draw: random.Random, folder: Path) -> None:
    """csv, tsv, jsonl and parquet tables with named columns."""
    from diffuseq.data.reading import Account, ReadOptions
    from diffuseq.data.tasks import prepare

    suffix = draw.choice((".csv", ".tsv", ".jsonl", ".csv.gz", ".parquet", ""))
    tab = "\t" if "tsv" in suffix else ","
    rows = [["q", "a", "extra"], *([text, text[::-1], '"x"'] for text in SENTENCES)]
    data = "\n".join(
        tab.join(hostile.text(draw) if draw.random() < 0.1 else cell for cell in row) for row in rows
    )
    content = data.encode("utf-8", "surrogatepass")
    if "jsonl" in suffix:
        content = hostile.damaged_lines(draw, [{"q": "a", "a": {"b": "c"}}] * 3)
    content = hostile.damaged_bytes(draw, content) if draw.random() < 0.5 else content
    path = folder / f"table{suffix}"
    path.write_bytes(gzip.compress(content, 1) if suffix.endswith("gz") else content)
    options = ReadOptions(
        source_column=perhaps(draw, "q"),
        target_column=perhaps(draw, "a.b" if "jsonl" in suffix else "a"),
        reference_column=draw.choice((None, "extra")),
        valid_share=draw.choice(hostile.NUMBERS) if draw.random() < 0.2 else 0.5,
        quotes=draw.random() < 0.5,
    )
    prepare("columns", [path], folder / "out", options, account=Account(draw.random() < 0.5))


@target(10)
def releases(draw: random.Random, folder: Path) -> None:
    """The raw files of the published tasks."""
    from diffuseq.data.reading import Account, ReadOptions
    from diffuseq.data.tasks import prepare

    question = {"uid": "1", "question": "who?", "answer": "me"}
    context = {"uid": "1", "contexts": [[0.5, "it is me"], [0.1, "nobody"]]}
    post = {"post": ["how", "are", "you"], "response": "fine"}
    task, files = draw.choice(
        (
            ("qqp", {"quora.tsv": b"id\tquestion1\tquestion2\tis_duplicate\n1\ta b\tb a\t1\n2\tc\td\t0\n"}),
            ("wiki-auto", {"train.tsv": b"a b c\ta b\naligned\t1\t2\ts\tc\n"}),
            ("wiki-auto", {"train.src": b"a b\nc d\n", "train.dst": b"a\nc\n"}),
            (
                "quasar-t",
                {
                    "train_questions.json": hostile.damaged_lines(draw, [question] * 2),
                    "train_contexts.json": hostile.damaged_lines(draw, [context] * 2),
                },
            ),
            ("commonsense-conversation", {"trainset.txt": hostile.damaged_lines(draw, [post] * 3)}),
            ("dialogue", {"dialogues_train.txt": b"hi __eou__ hello __eou__ bye __eou__\na __eou__ b\n"}),
        )
    )
    put(folder / "raw", files)
    for path in sorted((folder / "raw").iterdir()):
        if draw.random() < 0.7:
            path.write_bytes(hostile.damaged_bytes(draw, path.read_bytes()))
    if draw.random() < 0.05:
        damage_folder(draw, folder / "raw")
    options = ReadOptions(
        valid_rows=draw.choice((None, 1, 0, -1, 10**30)),
        test_rows=draw.choice((None, 1, 0, -1)),
        contexts=draw.choice((3, 0, -1, 10**30)),
        valid_share=draw.choice(hostile.NUMBERS) if draw.random() < 0.2 else 0.02,
    )
    prepare(task, [folder / "raw"], folder / "out", options, account=Account(draw.random() < 0.5))


@target(4)
def token_store(draw: random.Random, folder: Path) -> None:
    """A memory-mapped store with damaged files; all that opens is read."""
    from diffuseq.data.batching import collate
    from diffuseq.data.pairs import Pair
    from diffuseq.data.store import TokenStore, build_store

    limits: dict[str, Any] = {"max_source": 8, "max_target": 8, "vocab_size": 120, "unknown_id": 1}
    store = build_store(
        [Pair(s, s, (s,)) for s in SENTENCES],
        tokenizer().encode,
        folder / "store",
        identity={"a": "b"},
        **limits,
    )
    for path in sorted(store.path.iterdir()):
        if draw.random() < 0.5:
            if path.suffix == ".json":
                damage_json_file(draw, path)
            else:
                path.write_bytes(hostile.damaged_bytes(draw, path.read_bytes()))
    if draw.random() < 0.1:
        damage_folder(draw, store.path)
    opened = TokenStore.open(folder / "store", draw.choice((None, {"a": "b"})))
    everything = collate(opened, range(len(opened)), 0)
    assert everything.source.max() < opened.vocab_size and everything.target.max() < opened.vocab_size
    opened.report.warnings()


# Text


@target(12)
def tokenizer_files(draw: random.Random, folder: Path) -> None:
    """tokenizer.json, vocab.json, vocab.txt, words.txt, a tokenizer_config.json; texts there and back."""
    name = draw.choice(("tokenizer.json", "vocab.json", "vocab.txt", "words.txt"))
    if name == "tokenizer.json":
        (folder / name).write_bytes(model_files()[name])
        damage_json_file(draw, folder / name)
    elif name == "vocab.json":
        (folder / name).write_bytes(published_files()[name])
        damage_json_file(draw, folder / name)
    else:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", *SENTENCES[0].split()]
        words = [hostile.text(draw) if draw.random() < 0.1 else word for word in words]
        data = "\n".join(words).encode("utf-8", "surrogatepass")
        (folder / name).write_bytes(hostile.damaged_bytes(draw, data))
    if draw.random() < 0.3:
        (folder / "tokenizer_config.json").write_bytes(model_files()["tokenizer_config.json"])
        damage_json_file(draw, folder / "tokenizer_config.json")
    if draw.random() < 0.05:
        damage_folder(draw, folder)
    loaded = Tokenizer.load(draw.choice((folder, folder / name)))
    rows = loaded.encode([*SENTENCES[:2], hostile.text(draw).encode("utf-8", "replace").decode()])
    for row in rows:
        loaded.tokens(row)
        for style in ("tidy", "published"):
            loaded.decode(row, style)
    assert all(0 <= i < loaded.vocab_size for row in rows for i in row)
    assert loaded.fingerprint and loaded.special.vocab_size < 10**9


@target(8)
def templates(draw: random.Random, folder: Path) -> None:
    """Templates, prefixes and suffixes, and the answers that they lead to."""
    from diffuseq.text.template import around, parse_template

    parts = ["how do i", "[MASK]", "[MASK]*3", "[...]", "learn", "[MASK]*", "*2", "[...][...]", "?"]
    text = draw.choice(("", " ")).join(
        draw.choice(parts) if draw.random() < 0.8 else hostile.text(draw) for _ in range(draw.randint(0, 6))
    )
    if draw.random() < 0.2:
        text = around(text, hostile.text(draw))
    parsed = parse_template(text, tokenizer())
    length = draw.choice((0, 1, 5, 16, 100))
    rows = parsed.at_length(length, [1, 2, 3])
    assert len({len(row) for row in rows}) == 1
    if draw.random() < 0.02:
        pipeline()(SENTENCES[0], template=text)


@target(2)
def generation(draw: random.Random, folder: Path) -> None:
    """Sources, templates and settings of a call from Python."""
    settings = dict(draw.sample(sorted(to_dict(pipeline().config.generation).items()), draw.randint(0, 3)))
    settings = {
        name: draw.choice((value, small(draw), hostile.value(draw))) for name, value in settings.items()
    }
    source: Any = draw.choice((SENTENCES[0], hostile.text(draw), SENTENCES[:2], [hostile.text(draw)]))
    template = draw.choice((None, None, "[...] learn", hostile.text(draw)))
    if not isinstance(source, list):
        *_, last = pipeline().stream(source, template=template, **settings)
        assert last.texts
    else:
        pipeline()(source, template=template, **settings)


def small(draw: random.Random) -> Any:
    """A number that is no work even where it is right."""
    return draw.choice((0, 1, 2, 3, -1, 0.5, 0.0, -0.5, float("nan"), float("inf"), 10**30, True))


# Models


@target(4)
def model_folder(draw: random.Random, folder: Path) -> None:
    """A model folder: config, generation settings, weights, shards, tokenizer."""
    from diffuseq.checkpoint import load_model

    put(folder / "model", model_files())
    path = folder / "model"
    match draw.randint(0, 5):
        case 0 | 1:
            damage_json_file(
                draw, path / draw.choice(("config.json", "generation_config.json", "config.json"))
            )
        case 2:
            change_sizes(draw, path / "config.json")
        case 3:
            (path / "model.safetensors").write_bytes(
                damaged_safetensors(draw, model_files()["model.safetensors"])
            )
        case 4:
            damage_folder(draw, path)
        case _:
            use_index(draw, path)
    system, own_tokenizer, config = load_model(path)
    check_generation(config.generation)
    assert system.num_parameters() < 100_000 and own_tokenizer.vocab_size


@functools.cache
def graph_files() -> dict[str, bytes]:
    """What `diffuseq export` writes beside the files of the model folder."""
    from diffuseq.onnx_runtime import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        put(Path(folder), model_files())
        graphs = export_onnx(pipeline().system, folder)
        return {path.name: path.read_bytes() for path in sorted(graphs.iterdir())}


@target(1)
def onnx_graphs(draw: random.Random, folder: Path) -> None:
    """The graphs in a model folder: cut, with other bytes, changed places, or none."""
    from diffuseq.pipeline import DiffuSeqPipeline

    path = folder / "model"
    put(path, model_files())
    put(path / "onnx", graph_files())
    name = draw.choice(("decoder.onnx", "words.onnx", "made-from.json"))
    match draw.randint(0, 3):
        case 0:
            content = bytearray(graph_files()[name])
            for _ in range(draw.randint(1, 20)):
                content[draw.randrange(len(content))] = draw.randrange(256)
            (path / "onnx" / name).write_bytes(content)
        case 1:
            damage_folder(draw, path / "onnx")
        case 2:
            (path / "onnx" / name).write_bytes(graph_files()[draw.choice(sorted(graph_files()))])
        case _:
            (path / "onnx" / name).write_text(hostile.text(draw), "utf-8", "surrogatepass")
    pipe = DiffuSeqPipeline.from_pretrained(path, "cpu", "onnx")
    pipe("how do i learn?", candidates=2)


def change_sizes(draw: random.Random, path: Path) -> None:
    """Other numbers in the config of the system, up to absurd ones."""
    content = json.loads(path.read_bytes())
    part = content[draw.choice(("system", "system", "text"))]
    for name in draw.sample(sorted(part), 2):
        if not isinstance(part[name], str | bool):
            part[name] = draw.choice((*hostile.NUMBERS, 4, 8, 16, 64, 100_000))
    path.write_text(hostile.to_json(content))


def damaged_safetensors(draw: random.Random, good: bytes) -> bytes:
    """Weights with a damaged header, other shapes, names, places or kinds, or cut short."""
    if draw.random() < 0.3:
        return hostile.damaged_bytes(draw, good)
    size = struct.unpack("<Q", good[:8])[0]
    header = json.loads(good[8 : 8 + size])
    names = [name for name in header if name != "__metadata__"]
    if names and draw.random() < 0.5:
        entry = header[draw.choice(names)]
        entry[draw.choice(("shape", "data_offsets"))] = [draw.choice(hostile.NUMBERS) for _ in range(2)]
        entry["dtype"] = draw.choice((entry["dtype"], "F16", "I64", "BOOL", "F8_E4M3", "x"))
    else:
        header = hostile.damaged_json(draw, header)
    new = hostile.to_json(header).encode()
    claimed = draw.choice((len(new), len(new), len(new), 0, 2**62, 2**64 - 1))
    return struct.pack("<Q", claimed) + new + good[8 + size :]


def use_index(draw: random.Random, path: Path) -> None:
    """Shards: an index that names files elsewhere, of other kinds, or none."""
    name = draw.choice(
        ("model-1.safetensors", "../model.safetensors", "/etc/passwd", "model.bin", hostile.text(draw))
    )
    index = {"metadata": {}, "weight_map": {"a": name, "b": "model-1.safetensors"}}
    (path / "model.safetensors").rename(path / "model-1.safetensors")
    (path / "model.safetensors.index.json").write_text(hostile.to_json(index))
    if draw.random() < 0.5:
        damage_json_file(draw, path / "model.safetensors.index.json")


@target(2)
def published_checkpoint(draw: random.Random, folder: Path) -> None:
    """A checkpoint folder of the published code, with pickles that want to run something."""
    from diffuseq.model.import_official import import_official

    path = folder / "published"
    put(path, published_files())
    weights = path / "ema_0.9999_000100.pt"
    match draw.randint(0, 4):
        case 0:
            weights.write_bytes(malicious_pickle(draw))
        case 1:
            weights.write_bytes(hostile.damaged_bytes(draw, published_files()[weights.name]))
        case 2:
            weights.write_bytes(other_weights(draw))
        case 3:
            damage_folder(draw, path)
        case _:
            damage_json_file(
                draw, path / draw.choice(("training_args.json", "bert_config.json", "vocab.json"))
            )
    import_official(path)


class Payload:
    """Unpickled without care, it runs a command; the harness hears of every command."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def malicious_pickle(draw: random.Random) -> bytes:
    """A pickle that calls something when it is opened: bare, in a torch archive, or inside a state dict."""
    import os

    call: Any = draw.choice((os.system, eval, exec, print, __import__, getattr, torch.load))
    content: Any = Payload(call, draw.choice(("echo harmless", "1", "os")))
    if draw.random() < 0.5:
        content = {"word_embedding.weight": torch.zeros(2, 2), "x": content}
    stream = io.BytesIO()
    match draw.randint(0, 2):
        case 0:
            pickle.dump(content, stream, protocol=draw.randint(0, 5))
        case 1:
            torch.save(content, stream)
        case _:
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr("../../archive/data.pkl", pickle.dumps(content, protocol=2))
                archive.writestr("archive/version", "3")
    return stream.getvalue()


def other_weights(draw: random.Random) -> bytes:
    """A state dict with tensors of other names, kinds and shapes; or no state dict at all."""
    content: Any = torch.load(io.BytesIO(published_files()["ema_0.9999_000100.pt"]), weights_only=True)
    name = draw.choice(sorted(content))
    match draw.randint(0, 5):
        case 0:
            del content[name]
        case 1:
            content[name] = content[name].to(draw.choice((torch.int64, torch.bool, torch.complex64)))
        case 2:
            content[name] = torch.zeros(draw.choice(((), (0,), (3, 3), (2, 2, 2))))
        case 3:
            content[hostile.text(draw)] = content.pop(name)
        case 4:
            content[draw.choice((name, 3, None))] = draw.choice((1, "a", None, [torch.zeros(1)]))
        case _:
            content = draw.choice(([], None, content[name], {name: content}))
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@target(10)
def configs(draw: random.Random, folder: Path) -> None:
    """config.json as a value, of every kind of system, and the generation settings in it."""
    from diffuseq.recipes import RECIPES, recipe
    from diffuseq.registry import config_from_dict

    values = to_dict(recipe(draw.choice(sorted(RECIPES))))
    config = config_from_dict(hostile.damaged_json(draw, values))
    check_generation(config.generation)
    assert config_from_dict(to_dict(config)) == config or config != config


# Runs


@target(4)
def resume_checkpoint(draw: random.Random, folder: Path) -> None:
    """The checkpoint that a training goes on from."""
    from diffuseq.training.state import load_newest, save_checkpoint, unpack

    tensors = {"weights": {"a": torch.zeros(2, 3)}, "optimizer": {}, "system": {"/x": torch.zeros(2)}}
    values = {"progress": {"step": 1}, "system": {"x": {"$tensor": "/x", "$numpy": False}}, "bf16": False}
    for step in (1, 2):
        save_checkpoint(folder / "resume", step, tensors, values, keep=2)
    path = folder / "resume" / "step-2"
    for file in sorted(path.iterdir()):
        if draw.random() < 0.5:
            if file.suffix == ".json":
                damage_json_file(draw, file)
            else:
                file.write_bytes(damaged_safetensors(draw, file.read_bytes()))
    if draw.random() < 0.2:
        damage_folder(draw, path)
    if draw.random() < 0.3:
        shutil.rmtree(folder / "resume" / "step-1")
    loaded = load_newest(folder / "resume")
    if loaded is not None:
        unpack(loaded[2]["system"], loaded[1]["system"])


@target(8)
def predictions(draw: random.Random, folder: Path) -> None:
    """predictions.jsonl, and files of the published format."""
    from diffuseq.evaluation.predictions import lower_cased, read_predictions

    ours = [
        {"source": s, "references": [s], "candidates": ["a", s], "chosen": s, "seconds": 0.1, "forwards": 2}
        for s in SENTENCES
    ]
    published = [{"recover": f"[CLS] {s} [SEP]", "reference": s, "source": s} for s in SENTENCES]
    files = []
    for number in range(draw.randint(1, 3)):
        rows: list[Any] = (
            draw.choice((ours, published)) if draw.random() < 0.2 else published if number else ours
        )
        path = folder / draw.choice(("predictions.jsonl", f"seed{number}.json", f"s{number}.jsonl.gz"))
        path.write_bytes(hostile.damaged_lines(draw, rows))
        files.append(path)
    read = read_predictions(*draw.choice((files, files[:1], [folder])))
    lower_cased(read)


@target(4)
def unfinished_answers(draw: random.Random, folder: Path) -> None:
    """What a killed `generate` left of its answers."""
    from diffuseq.evaluation.predictions import Prediction
    from diffuseq.evaluation.unfinished import unfinished

    rows: list[Any] = [{"identity": "a"}]
    rows += [
        {
            "row": row,
            "source": s,
            "references": [s],
            "candidates": [s],
            "chosen": s,
            "seconds": 0.1,
            "forwards": 2,
        }
        for row, s in enumerate(SENTENCES)
    ]
    output = folder / "predictions.jsonl"
    left = output.with_name(f"{output.name}.unfinished")
    damaged = hostile.damaged_lines(draw, rows[1:])
    left.write_bytes(hostile.to_json(rows[0]).encode() + b"\n" + damaged)
    if draw.random() < 0.1:
        damage_folder(draw, folder)
    with unfinished(output, "a") as kept:
        for answer in kept.done.values():
            hostile.to_json(vars(answer))
        kept.add({99: Prediction("a", (), ("b",), "b")})


@target(6)
def traces(draw: random.Random, folder: Path) -> None:
    """A trace file, and how it is shown in a pipe and in a terminal."""
    from rich.console import Console

    from diffuseq.cli.view import choice_view, view
    from diffuseq.cli.watch import show_choice, show_frames
    from diffuseq.trace import read_traces

    frame = {"index": 0, "total": 1, "forwards": 1, "seconds": 0.1, "rows": [[[" a", 0.5, "new"]]]}
    choice = {"text": "a", "candidates": ["a", "b"], "chosen": 0, "agreement": [[1.0, 0.5], [0.5, 1.0]]}
    choice |= {"log_p": [-0.5, -1.5], "likelihood_weight": 0.1, "passed_over": [1]}
    choice |= {"to_source": [0.2, 0.9], "source_weight": 0.4}
    lines = [
        {"source": "q", "settings": {"steps": 1}},
        frame,
        frame,
        {**choice, "seconds": 1.0, "forwards": 2},
    ]
    path = folder / "trace.jsonl"
    path.write_bytes(hostile.damaged_lines(draw, lines))
    for trace in read_traces(path)[:LARGEST_OUTPUT]:
        out = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
        console = Console(file=out, width=draw.choice((20, 80)), force_terminal=False)
        show_frames(console, trace.source, trace.frames)
        for shown in trace.frames:
            console.print(view(trace.source, shown, console.width, 24))
        if trace.choice is not None:
            show_choice(console, trace.choice)
            console.print(choice_view(trace.choice, console.width))
