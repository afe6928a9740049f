"""The walls of the house: what may import what, and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import diffuseq

SOURCE = Path(diffuseq.__file__).parent
MATHEMATICS = sorted(
    [
        *(path for room in ("diffusion", "sampling", "decoding") for path in (SOURCE / room).glob("*.py")),
        *SOURCE.glob("losses.py"),
    ]
)
FORBIDDEN = (
    *(f"diffuseq.{room}" for room in ("model", "systems", "system", "training", "text", "config", "recipes")),
    *("transformers", "tokenizers"),
)


def imported_modules(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, at the top or anywhere within."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import; this test reads absolute ones"
            module = node.module or ""
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", MATHEMATICS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_mathematics_takes_tensors_and_callables_only(path):
    crossed = {
        name
        for name in imported_modules(path)
        for wall in FORBIDDEN
        if name == wall or name.startswith(f"{wall}.")
    }
    assert not crossed


def test_the_walls_are_seen_by_this_test():
    assert len(MATHEMATICS) >= 10
    assert "diffuseq.errors" in imported_modules(SOURCE / "sampling" / "grid.py")


def test_importing_the_package_costs_no_torch_and_no_time():
    code = (
        "import sys, time; start = time.perf_counter(); import diffuseq; "
        "print(time.perf_counter() - start, 'torch' in sys.modules)"
    )
    attempts = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(3)
    ]
    assert {loaded for _, loaded in attempts} == {"False"}
    assert min(float(seconds) for seconds, _ in attempts) < 0.2


def test_type_checkers_are_told_of_every_public_name_where_it_is():
    (block,) = (
        node for node in ast.parse((SOURCE / "__init__.py").read_text()).body if isinstance(node, ast.If)
    )
    told = {alias.asname: node.module for node in block.body for alias in node.names}
    assert told == diffuseq._HOMES
    assert (SOURCE / "py.typed").is_file()
