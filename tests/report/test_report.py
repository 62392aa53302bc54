"""The report: explain(), dumped files that parse back, artifacts and kernels' texts, the HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import rnngraph as rg
from rnngraph import backends
from rnngraph.backends.reference import ReferenceBackend, ReferenceKernel
from rnngraph.backends.registry import BuildContext
from rnngraph.errors import ImportModelError, ParseError
from rnngraph.ir import F32, Builder, Graph, TensorType, Value, build_graph
from rnngraph.report import Report
from rnngraph.report.dump import read
from rnngraph.report.explain import count_ops
from rnngraph.report.numeric import deviation, random_inputs
from rnngraph.runtime.segments import Segment
from tests.testing import WITHOUT_LLVM

PIPELINE = "dce,select-implementation"


@pytest.fixture(autouse=True, scope="module")
def reference_only() -> Iterator[None]:
    """These tests are about the API, so they run on the backend that defines the numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "BACKENDS", WITHOUT_LLVM)
        yield


def dense(layer: str = "dense") -> Graph:
    def body(b: Builder, v: dict[str, Value]) -> dict[str, Value]:
        with b.named(layer):
            b.tanh(v["x"])  # dead
            w = b.const(np.arange(30, dtype=np.float32).reshape(5, 6))
            return {"y": b.matmul(v["x"], w)}

    return build_graph({"x": TensorType(F32, ("batch", 5))}, body, "dense")


@pytest.fixture(scope="module")
def report() -> Report:
    return rg.compile(dense(), pipeline=PIPELINE).report


def test_passes_have_name_before_after_seconds_and_remarks(report: Report) -> None:
    dce, select = report.passes
    assert (dce.name, select.name) == ("dce", "select-implementation")
    assert dce.before == report.trace
    assert dce.after == select.before != dce.before
    assert dce.seconds >= 0
    assert isinstance(dce.remarks, list)
    assert 'impl = "' in select.after
    assert report.seconds > 0


def test_explain(report: Report) -> None:
    text = report.explain()
    assert text.startswith("dense: target auto, precision f32, 2 passes, compiled in ")
    assert "  inputs   x: f32[batch,5]\n  outputs  y: f32[batch,6]\n" in text
    assert "3 -> 2 ops" in text
    assert "changed, 2 ops" in text
    table = [line.split() for line in text.splitlines() if line.startswith("  matmul")]
    verdicts = {row[2]: row[3] for row in table}
    assert verdicts["cupy.op"] == "rejected"
    assert "chosen" in verdicts.values()
    assert "    gpu: an NVIDIA GPU with a driver must be present (" in text


def test_explain_of_a_cpu_compile_leaves_the_gpu_out() -> None:
    assert "cupy" not in rg.compile(dense(), pipeline=PIPELINE, target="cpu").explain()


def test_dump_writes_every_stage_and_each_parses_back(tmp_path: Path, report: Report) -> None:
    written = report.dump(tmp_path / "new" / "dumps")
    names = [p.name for p in written if not p.name.startswith("kernel-")]
    assert names == ["000-trace.rg", "001-dce.rg", "002-select-implementation.rg", "explain.txt",
                     "resources.npz"]
    assert sorted(written) == sorted((tmp_path / "new" / "dumps").iterdir())
    for path, text in zip(written, [report.trace, *(p.after for p in report.passes)], strict=False):
        graph = read(path)
        assert graph.to_text(resources=False) == text
        x = np.eye(5, dtype=np.float32)
        np.testing.assert_array_equal(rg.ir.evaluate(graph, {"x": x})["y"], np.arange(30).reshape(5, 6))


def test_a_second_dump_leaves_no_stage_of_the_first(tmp_path: Path, report: Report) -> None:
    for name in ("007-old-pass.rg", "kernel-3-llvm.s", "notes.rg", "mine.txt"):
        (tmp_path / name).write_text("")
    written = report.dump(tmp_path)
    assert set(tmp_path.iterdir()) == {*written, tmp_path / "notes.rg", tmp_path / "mine.txt"}


def test_artifacts_and_remarks_are_comments(tmp_path: Path, report: Report) -> None:
    report.dump(tmp_path)
    lines = (tmp_path / "002-select-implementation.rg").read_text().splitlines()
    assert "// selection:" in lines
    assert lines[lines.index("// selection:") + 1].startswith("// op ")


def test_compile_dumps_where_asked(tmp_path: Path) -> None:
    rg.compile(dense(), pipeline=PIPELINE, dump=tmp_path)
    assert (tmp_path / "001-dce.rg").exists()


class WithText(ReferenceKernel):
    """A kernel that has something to show."""

    def artifacts(self) -> Mapping[str, str]:
        return {"llvm-ir": "; <ir>", "asm": "ret", "plan": "one step", "0-a/b.ll": "; two"}


def test_what_kernels_emit_is_dumped_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(self: ReferenceBackend, graph: Graph, segment: Segment, context: BuildContext) -> WithText:
        return WithText(segment)

    monkeypatch.setattr(ReferenceBackend, "build", build)
    monkeypatch.setattr("rnngraph.backends.BACKENDS", {"reference": "rnngraph.backends.reference:backend"})
    report = rg.compile(dense(), pipeline=PIPELINE).report
    report.dump(tmp_path)
    kernels = {p.name: p.read_text() for p in tmp_path.glob("kernel-*")}
    assert kernels == {"kernel-0-reference.ll": "; <ir>", "kernel-0-reference.s": "ret",
                       "kernel-0-reference-plan.txt": "one step", "kernel-0-reference-0-a_b.ll": "; two"}
    page = report.to_html(tmp_path / "r.html").read_text()
    assert "; &lt;ir&gt;" in page


def test_reading_a_stage_without_its_constants(tmp_path: Path, report: Report) -> None:
    report.dump(tmp_path)
    (tmp_path / "resources.npz").unlink()
    with pytest.raises(ParseError, match="is neither in the text nor given"):
        read(tmp_path / "000-trace.rg")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x80\x04\x95pickle"])
def test_a_broken_resource_file(tmp_path: Path, report: Report, content: bytes) -> None:
    report.dump(tmp_path)
    (tmp_path / "resources.npz").write_bytes(content)
    with pytest.raises(ImportModelError, match="cannot read the constants"):
        read(tmp_path / "000-trace.rg")


def test_an_unreadable_stage(tmp_path: Path) -> None:
    (tmp_path / "a.rg").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "a.rg", tmp_path / "none.rg", tmp_path):
        with pytest.raises(ImportModelError, match="cannot read"):
            read(path)


class _Balanced(HTMLParser):
    """Tags that must close do, nothing runs, nothing is loaded from elsewhere."""

    VOID = ("meta", "li")

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not {"src", "href", "onclick", "onerror"} & {name for name, _ in attrs}
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.stack.pop() == tag


def test_html_escapes_what_comes_from_the_model(tmp_path: Path) -> None:
    report = rg.compile(dense('<img src=x onerror="alert(1)">&'), pipeline=PIPELINE).report
    page = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    parser = _Balanced()
    parser.feed(page)
    assert parser.stack == []
    assert not parser.seen & {"img", "script", "link"}
    assert "&lt;img src=x" in page
    for part in ("Passes", "Selection", "Kernels", "1. dce", "difference", "graph after", "rejected"):
        assert part in page


def test_count_ops_counts_bodies_too() -> None:
    assert count_ops(rg.ir.parse("""graph @g(%x: f32[T,B,2], %h: f32[B,2]) {
      %c, %y = scan carry(h = %h) over(x = %x) {steps = T} {
      ^(%a: f32[B,2], %s: f32[B,2]):
        %n = tanh %a : f32[B,2]
        yield carry(h = %n) emit(y = %s)
      } : f32[B,2], f32[T,B,2]
      return y = %y
    }""").to_text()) == 2


@pytest.mark.parametrize(("got", "want", "error"), [
    ([1.0, 2.0], [1.0, 2.5], 0.5),
    ([np.nan, np.inf], [np.nan, np.inf], 0.0),
    ([np.nan, 1.0], [0.0, 1.0], np.inf),
    ([np.inf], [-np.inf], np.inf),
    ([], [], 0.0),
])
def test_deviation(got: list[float], want: list[float], error: float) -> None:
    assert deviation(np.array(got), np.array(want))[0] == error


def test_random_inputs_keep_to_what_integers_may_be() -> None:
    graph = rg.ir.parse("""graph @g(%ids: i32[B,T], %l: i32[B], %h: f32[B,2], %m: bool[B]) {
      %e = const splat(1.0) : f32[3,2]
      %t = transpose %ids {perm = [1, 0]} : i32[T,B]
      %c = scan carry(h = %h) over(i = %t) lengths(%l) {steps = T} {
      ^(%a: f32[B,2], %i: i32[B]):
        %r = gather %e, %i : f32[B,2]
        yield carry(h = %r) emit()
      } : f32[B,2]
      return h = %c
    }""")
    arrays = random_inputs(graph, {"B": 50, "T": 4})
    assert (arrays["ids"].min(), arrays["ids"].max()) == (0, 2)
    assert (arrays["l"].min(), arrays["l"].max()) == (0, 4)
    assert arrays["m"].dtype == np.bool_
    rg.ir.evaluate(graph, arrays)
