"""The walk over ONNX graphs: shapes as known values, programs for values and sizes, names, what is not supported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import rnngraph as rg
from rnngraph.errors import ImportModelError, InputError
from tests.frontends.onnx_graphs import info, model, runtime

X = np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)


def test_shape_arithmetic_stays_symbolic() -> None:
    """Reshape to [batch * time, 8] by Shape, Gather, Mul, Concat: one program for all sizes."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["b"]), helper.make_node("Gather", ["s", "one"], ["t"]),
        helper.make_node("Mul", ["b", "t"], ["bt"]), helper.make_node("Unsqueeze", ["bt", "axes"], ["bt1"]),
        helper.make_node("Concat", ["bt1", "eight"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = {"zero": np.array(0), "one": np.array(1), "axes": np.array([0]), "eight": np.array([-1])}
    made = model(nodes, [info("x", ("batch", "time", 8))], [info("y", (None, None))], constants)
    compiled = rg.compile(made)
    assert type(compiled) is rg.CompiledModel
    for x in (X, X[:1, :2]):
        np.testing.assert_array_equal(compiled(x), runtime(made, {"x": x})[0])


@pytest.mark.parametrize(("start", "end", "step"), [
    (0, 2, 1), (1, 2**63 - 1, 1), (-2, 2**63 - 1, 1), (0, -1, 1), (-3, -1, 1), (4, 0, -1), (-1, -(2**63), -1),
    (2, -100, -2), (0, 100, 2), (100, 200, 1), (3, 1, 1), (-100, 3, 2),
])
def test_slices_of_a_symbolic_axis(start: int, end: int, step: int) -> None:
    nodes = [helper.make_node("Slice", ["x", "s", "e", "a", "k"], ["y"])]
    constants = {"s": np.array([start]), "e": np.array([end]), "a": np.array([1]), "k": np.array([step])}
    made = model(nodes, [info("x", ("batch", "time", 8))], [info("y", (None, None, 8))], constants)
    compiled = rg.compile(made)
    for steps in (5, 4, 3):
        x = X[:, :steps]
        np.testing.assert_array_equal(compiled(x), runtime(made, {"x": x})[0])


def test_open_dims_without_a_name() -> None:
    """Paddle's exporter writes -1 and "?": each is a size of its own."""
    made = model([helper.make_node("Relu", ["x"], ["y"])], [info("x", (-1, "?", "?"))], [info("y", (-1, "?", "?"))])
    compiled = rg.compile(made)
    for x in (X, X[:1, :2]):
        np.testing.assert_array_equal(compiled(x), np.maximum(x, 0))
    with pytest.raises(ImportModelError, match=r"'x': a dim must be >= 0, or -1 for an open one, got -2"):
        rg.compile(model([helper.make_node("Relu", ["x"], ["y"])], [info("x", (-2,))], ["y"]))


def test_sizes_that_are_equal_for_some_sizes_alone() -> None:
    """Paddle's recognisers pool the height away: each height makes a program, or is refused."""
    nodes = [helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2], strides=[2]),
             helper.make_node("Concat", ["p", "w"], ["y"], axis=0)]
    made = model(nodes, [info("x", (3, 1, "height"))], ["y"], {"w": X[:, :1, :2]})
    compiled = rg.compile(made)
    for size in (4, 5):
        x = X[:, :1, :size]
        np.testing.assert_array_equal(compiled(x), runtime(made, {"x": x})[0])
    with pytest.raises(ImportModelError, match="operands must agree in dim 2, got"):
        compiled(X[:, :1, :8])


def test_a_shape_that_is_an_input_makes_a_program_for_each_value() -> None:
    made = model([helper.make_node("Reshape", ["x", "shape"], ["y"])],
                 [info("x", (3, 5, 8)), info("shape", (2,), "i64")], [info("y", (None, None))])
    compiled = rg.compile(made)
    for shape in ((15, 8), (-1, 4), (15, 8)):
        given = np.array(shape)
        (expected,) = runtime(made, {"x": X, "shape": given})
        np.testing.assert_array_equal(compiled(X, given), expected)
        np.testing.assert_array_equal(compiled.run({"x": X, "shape": given})["y"], expected)
    assert compiled.input_names == ("x", "shape")
    assert "one program is compiled for each value of input 'shape'" in compiled.explain()
    with pytest.raises(InputError, match=r"the inputs do not fit the model .'shape' is \[7, 7\]\): .*Reshape"):
        compiled(X, np.array([7, 7]))


def test_a_size_that_decides_the_rank_makes_a_program_for_each_size() -> None:
    made = model([helper.make_node("Squeeze", ["x"], ["y"])], [info("x", ("batch", 8))], [info("y", (8,))])
    compiled = rg.compile(made)
    assert np.shape(compiled(X[0, :1])) == (8,)
    assert np.shape(compiled(X[0, :2])) == (2, 8)
    assert "the size 'batch'" in compiled.explain()


def test_names_of_the_file_stay() -> None:
    made = model([helper.make_node("Relu", ["in:0"], ["out/y:0"])], [info("in:0", (2, "n.a"))],
                 [info("out/y:0", (2, None))])
    compiled = rg.compile(made)
    assert compiled.input_names == ("in:0",)
    assert compiled.output_names == ("out/y:0",)
    x = X[0, :2]
    np.testing.assert_array_equal(compiled.run({"in:0": x})["out/y:0"], np.maximum(x, 0))
    np.testing.assert_array_equal(compiled(**{"in:0": x}), np.maximum(x, 0))
    with pytest.raises(InputError, match=r"the model takes \['in:0'\]"):
        compiled(**{"in_1": x})


def test_all_unsupported_nodes_are_listed() -> None:
    nodes = [helper.make_node("Unheard", ["x"], ["a"], name="first", domain="mine"),
             helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("Of", ["b"], ["y"], name="second", domain="mine")]
    graph = helper.make_graph([*nodes, helper.make_node("Of", ["x"], ["z"], name="third", domain="mine")], "g",
                              [info("x", (2,))], [info("y", (2,)), info("z", (2,))])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)])
    with pytest.raises(ImportModelError, match=r"2 node\(s\).*'first' \(mine\.Unheard\).*'third' \(mine\.Of\)"):
        rg.compile(made)


def test_nodes_out_of_order_and_cycles() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"], name="n0"), helper.make_node("Relu", ["a"], ["b"])]
    graph = helper.make_graph(nodes, "g", [info("x", (2,))], [info("b", (2,))])
    with pytest.raises(ImportModelError, match="'b' is made only by a later node"):
        rg.compile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def with_external_data(folder: Path) -> Path:
    """The folder, with m.onnx, whose one weight (X[0, 0], added to x) stands in w.bin."""
    folder.mkdir()
    made = model([helper.make_node("Add", ["x", "w"], ["y"])], [info("x", (2, 8))], [info("y", (2, 8))],
                 {"w": X[0, 0]})
    onnx.save(made, folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    return folder


def test_external_data_stays_in_its_folder(tmp_path: Path) -> None:
    inside = with_external_data(tmp_path / "model")
    x = X[0, :2]
    np.testing.assert_array_equal(rg.compile(inside / "m.onnx")(x), x + X[0, 0])
    (tmp_path / "w.bin").write_bytes((inside / "w.bin").read_bytes())
    data = (inside / "m.onnx").read_bytes()
    for location in (b"../w.bin", b"/etc/passwd"):
        changed = onnx.ModelProto.FromString(data)
        next(e for e in changed.graph.initializer[0].external_data if e.key == "location").value = location.decode()
        (inside / "bad.onnx").write_bytes(changed.SerializeToString())
        with pytest.raises(ImportModelError, match="must stand in a file in the model's folder"):
            rg.compile(inside / "bad.onnx")
    (inside / "w.bin").write_bytes(b"\0" * 3)
    with pytest.raises(ImportModelError, match="needs 32 bytes"):
        rg.compile(inside / "m.onnx")


def test_dims_without_names_that_must_be_equal_are_one() -> None:
    """As files have it in which every input names its batch by itself."""
    nodes = [helper.make_node("Concat", ["x", "z"], ["c"], axis=1), helper.make_node("Add", ["c", "u"], ["y"])]
    made = model(nodes, [info("x", (None, 3)), info("z", ("other", 5)), info("u", ("third", 8))],
                 [info("y", (None, 8))])
    compiled = rg.compile(made)
    x, z, u = X[0, :, :3], X[1, :, :5], X[2]
    np.testing.assert_array_equal(compiled(x, z, u), runtime(made, {"x": x, "z": z, "u": u})[0])
    with pytest.raises(InputError, match="input 'z': dim 'other' is 2 here but 5 in 'x'"):
        compiled(x, z[:2], u)


def test_a_reshape_by_an_input_of_an_open_size() -> None:
    """-1 beside a number that need not divide the size: one program for each value and size."""
    made = model([helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("Tanh", ["r"], ["y"])],
                 [info("x", ("n",)), info("s", (2,), "i64")], [info("y", (None, None))])
    compiled = rg.compile(made)
    x = np.linspace(-1.0, 1.0, 340, dtype=np.float32)
    for shape in ((85, -1), (-1, 4), (17, -1)):
        (expected,) = runtime(made, {"x": x, "s": np.array(shape)})
        np.testing.assert_allclose(compiled(x, np.array(shape)), expected, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"'s' is \[85, -1\], n is 339.*Reshape"):
        compiled(x[:339], np.array([85, -1]))


@pytest.mark.parametrize("sizes", [[2**40], [2**31, 2**31], [50_000, 50_000]])
def test_a_constant_larger_than_any_memory(sizes: list[int]) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
             helper.make_node("Add", ["x", "r"], ["y"])]
    made = model(nodes, [info("x", (3,))], [info("y", (3,))], {"s": np.array(sizes)})
    with pytest.raises(ImportModelError, match=r"ConstantOfShape.*is too large"):
        rg.compile(made)


def test_threads_share_a_model_of_many_programs() -> None:
    """Calls with more values than programs are kept, from several threads at once."""
    made = model([helper.make_node("Reshape", ["x", "s"], ["y"])], [info("x", (96,)), info("s", (2,), "i64")],
                 [info("y", (None, None))])
    compiled = rg.compile(made)
    x = np.arange(96, dtype=np.float32)
    shapes = [(a, 96 // a) for a in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96)] * 3

    def call(shape: tuple[int, int]) -> bool:
        return bool((np.asarray(compiled(x, np.array(shape))) == x.reshape(shape)).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, shapes))


def test_external_data_behind_a_link_is_outside(tmp_path: Path) -> None:
    inside = with_external_data(tmp_path / "model")
    (inside / "w.bin").rename(tmp_path / "w.bin")
    (inside / "w.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ImportModelError, match="must stand in a file in the model's folder"):
        rg.compile(inside / "m.onnx")
