"""Who may import whom. Imports go downward only; passes and backends never see each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parent.parent / "rnngraph"
ARCHITECTURE = (ROOT.parent / "docs" / "architecture.md").read_text()

# part -> the parts it may import (besides itself). A part is a module or folder right under rnngraph/.
ALLOWED: dict[str, tuple[str, ...]] = {
    "errors": (),
    "ir": ("errors",),
    "rewrite": ("errors", "ir"),
    "phases": ("errors", "ir", "rewrite"),
    "passes": ("errors", "ir", "rewrite", "phases", "runtime"),
    "weights": ("errors",),
    "data": ("errors",),
    "nn": ("errors", "ir", "weights"),
    "frontends": ("errors", "ir", "nn", "weights"),
    "backends": ("errors", "ir", "phases", "runtime", "__init__"),  # __init__: the version, for the cache's keys
    "runtime": ("errors", "ir", "data", "report", "rewrite"),
    "report": ("errors", "ir", "rewrite"),
}
TOP = ("__init__", "__main__", "compiler", "export", "inspection", "trials", "cli", "demo")  # the face: imports all


def modules() -> list[Path]:
    """Every file of the package, relative to rnngraph/; the links are followed."""
    found = list(ROOT.glob("*.py"))
    for folder in filter(Path.is_dir, ROOT.iterdir()):
        real = folder.resolve()
        found += [ROOT / folder.name / p.relative_to(real) for p in real.rglob("*.py")]
    return sorted(p.relative_to(ROOT) for p in found)


def part_of(module: str) -> str:
    """rnngraph.ir.core -> ir; rnngraph -> __init__."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def imports(source: str, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """(line, part) for every import of rnngraph: at module level, inside functions, under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            ours = [a.name for a in node.names if a.name.split(".")[0] == "rnngraph"]
            yield from ((node.lineno, part_of(name)) for name in ours)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: absolute imports only"
            if node.module == "rnngraph":  # from rnngraph import ir
                yield from ((node.lineno, a.name if a.name in known else "__init__") for a in node.names)
            elif node.module and node.module.startswith("rnngraph."):
                yield node.lineno, part_of(node.module)


def violations(path: Path, source: str) -> list[str]:
    part = path.parts[0].removesuffix(".py")
    known = frozenset((*ALLOWED, *TOP))
    if part in TOP:
        return []
    if part not in ALLOWED:
        return [f"{path}: say in tests/test_layering.py what {part} may import"]
    return [f"{path}:{line}: {part} may not import {other} (only {', '.join(ALLOWED[part]) or 'nothing'})"
            for line, other in imports(source, known) if other != part and other not in ALLOWED[part]]


@pytest.mark.parametrize("path", modules(), ids=str)
def test_imports_go_downward(path: Path) -> None:
    assert violations(path, (ROOT / path).read_text()) == []


def test_the_table_in_the_docs() -> None:
    rows = re.findall(r"^\| `(?:rnngraph/)?(\w+)[./].* \| ([\w, ]+) \|$", ARCHITECTURE, re.MULTILINE)
    said = {part: frozenset(others.replace("nothing", "").split(", ")) - {""} for part, others in rows}
    face = said.pop("compiler")
    assert face == {"everything"}
    assert said == {part: frozenset(others) - {"__init__"} for part, others in ALLOWED.items()}


def test_the_rules_have_no_cycle() -> None:
    graph = nx.DiGraph([(part, other) for part, others in ALLOWED.items() for other in others])
    assert nx.is_directed_acyclic_graph(graph)
    assert "backends" not in ALLOWED["passes"]
    assert "passes" not in ALLOWED["backends"]


@pytest.mark.parametrize(("path", "source", "line"), [
    ("backends/llvm/kernel.py", "\nfrom rnngraph.passes import run", 2),
    ("passes/cse.py", "def f():\n    import rnngraph.backends.registry", 2),
    ("ir/core.py", "from rnngraph import nn", 1),
    ("nn/layers.py", "import rnngraph", 1),
])
def test_a_planted_violation_is_found(path: str, source: str, line: int) -> None:
    (found,) = violations(Path(path), source)
    assert found.startswith(f"{path}:{line}: ")
