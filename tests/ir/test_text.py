"""The text form: what is printed parses back, and malformed text says where it is wrong."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnngraph.errors import ParseError
from rnngraph.ir import BF16, F16, F32, I8, Builder, DType, Graph, TensorType, evaluate, parse, to_text, verify
from rnngraph.ir.text.printer import resources_of
from tests.graphs import graphs
from tests.testing import random_inputs

quick = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

VALID = """graph @g(%x: f32[T,B,4], %h0: f32[B,4], %n: i32[B]) { // a comment
  %k = const [1.0, -2.5, inf, nan] : f32[4]
  %s = const splat(true) : bool[2,2]
  %h, %y = scan carry(h = %h0) over(x = %x) lengths(%n) {steps = T, reverse = true, pad = repeat} {
  ^(%hh: f32[B,4], %xt: f32[B,4]):
    %b = broadcast %k {shape = [B, 4], axes = [1]} : f32[B,4]
    %a = add %hh, %xt : f32[B,4] <layer = "enc/0", impl = "llvm.op">
    %c = mul %a, %b : f32[B,4]
    yield carry(h = %c) emit(y = %a)
  } : f32[B,4], f32[T,B,4] <layer = enc>
  %t = transpose %y {perm = [1, 0, 2]} : f32[B,T,4]
  return y = %t, "final state" = %h
}
"""


@quick
@given(graphs())
def test_round_trip_of_random_graphs(graph: Graph) -> None:
    text = to_text(graph)
    again = parse(text)
    verify(again)
    assert to_text(again) == text
    inputs = random_inputs(graph)
    for (name, a), b in zip(evaluate(graph, inputs).items(), evaluate(again, inputs).values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_printed_text_is_stable() -> None:
    text = to_text(parse(VALID))
    assert to_text(parse(text)) == text
    assert '<layer = "enc/0", impl = "llvm.op">' in text
    assert '"final state" = %h' in text


@pytest.mark.parametrize("dtype", [F32, F16, BF16, I8])
def test_large_constants_are_resources(dtype: DType) -> None:
    graph = Graph("g")
    b = Builder(graph.block)
    array = np.arange(40).reshape(4, 10).astype(dtype.numpy)
    b.ret({"w": b.const(array, dtype)})
    text = to_text(graph)
    assert "resource @" in text
    assert to_text(parse(text)) == text
    short = to_text(graph, resources=False)
    assert "base64" not in short
    assert to_text(parse(short, resources_of(graph))) == text
    np.testing.assert_array_equal(evaluate(parse(text), {})["w"], array)


@pytest.mark.parametrize("value", ["0.1", "-0.0", "inf", "-inf", "nan", "1e-45", "3.4028235e+38"])
def test_floats_keep_their_bits(value: str) -> None:
    graph = parse(f"graph @g() {{ %k = const splat({value}) : f32[]  return k = %k }}")
    again = parse(to_text(graph))
    assert evaluate(again, {})["k"].tobytes() == np.float32(value).tobytes()


@pytest.mark.parametrize("layer", [
    'quo"te', "back\\slash", "new\nline", "sp ace", "true", "nan", "ünïcode", "\\n", "a\\"])
def test_odd_layer_names_survive(layer: str) -> None:
    graph = parse(VALID)
    for op in graph.walk():
        op.layer = layer
    again = parse(to_text(graph))
    assert {op.layer for op in again.walk()} == {layer}


def test_odd_value_names_become_safe_ones() -> None:
    graph = Graph("g")
    x = graph.add_input(TensorType(F32, ("B",)), "x")
    b = Builder(graph.block)
    y = b.tanh(x)
    y.hint = "a b%c"
    z = b.tanh(y)
    z.hint = "x"  # taken by the input
    b.ret({"z": z})
    assert "%a_b_c = tanh %x" in to_text(graph)
    assert "%x_1 = tanh %a_b_c" in to_text(graph)
    assert to_text(parse(to_text(graph))) == to_text(graph)


def one(line: str) -> str:
    return f"graph @g(%x: f32[B,4]) {{\n  {line}\n  return y = %x\n}}"


MALFORMED: list[tuple[str, str]] = [
    ("", "1:1: expected 'graph', got end of text"),
    ("grap @g() { return }", "1:1: expected 'graph', got 'grap'"),
    ("graph g() { return }", "1:7: expected the graph's @name, got 'g'"),
    ("graph @g(x: f32[]) { return }", "1:10: expected an argument %name, got 'x'"),
    ("graph @g(%x f32[]) { return }", "1:13: expected ':', got 'f32'"),
    ("graph @g(%x: f99[]) { return }", "1:14: unknown dtype 'f99'; expected one of f32, f64, f16"),
    ("graph @g(%x: f32[B,-1]) { return }", "1:20: expected a dim (a number, a symbol or an expression), got '-1'"),
    ("graph @g(%x: f32[B 4]) { return }", "1:20: expected ',', got '4'"),
    ("graph @g(%x: f32[B], %x: f32[B]) { return }", "1:22: %x is defined twice"),
    ("graph @g() {", "1:13: expected an op name, got end of text"),
    ("graph @g() { }", "1:14: block must end with return"),
    ("graph @g() { return } more", "1:23: expected end of text, got 'more'"),
    ("graph @g() { return $ }", "1:21: unexpected character '$'"),
    (one("%y = tanh %z : f32[B,4]"), "2:13: %z is not defined before its use"),
    (one("%y = tanh %y : f32[B,4]"), "2:13: %y is not defined before its use"),
    (one("%x = tanh %x : f32[B,4]"), "2:3: %x is defined twice"),
    (one("%y = twist %x : f32[B,4]"), "2:8: unknown op 'twist'"),
    (one("%y = yield %x : f32[B,4]"), "2:8: unknown op 'yield'"),
    (one("%y = tanh %x : f32[B,5]"), "2:18: result 0 of tanh is f32[B,4], the text says f32[B,5]"),
    (one("%y = tanh %x"), "3:3: expected ':', got 'return'"),
    (one("%y, %z = tanh %x : f32[B,4]"), "2:12: tanh has 1 result(s), 2 name(s) are given"),
    (one("tanh %x : f32[B,4]"), "2:3: tanh has 1 result(s), 0 name(s) are given"),
    (one("%y = add %x : f32[B,4]"), "2:8: add: expected 2 operand(s), got 1"),
    (one("%y = tanh %x {axis = 1} : f32[B,4]"), "2:17: tanh takes the attributes [] once each, got 'axis'"),
    (one("%y = reverse %x : f32[B,4]"), "2:19: reverse needs the attribute(s) ['axis']"),
    (one("%y = reverse %x {axis = one} : f32[B,4]"), "2:20: axis must be int, got 'one'"),
    (one("%y = reverse %x {axis = 0, axis = 0} : f32[B,4]"), "2:30: reverse takes the attributes ['axis'] once"),
    (one("%y = cast %x {dtype = f9} : f32[B,4]"), "2:17: dtype must be a dtype, got 'f9'"),
    (one("%y = transpose %x {perm = [0, 0.5]} : f32[B,4]"), "2:22: perm must be tuple[int, ...], got (0, 0.5)"),
    (one("%y = tanh %x : f32[B,4] <color = red>"), "2:28: expected layer or impl, got 'color'"),
    (one("%y = const [1, 2] : f32[3]"), "2:14: a constant of type f32[3] needs 3 values, got 2"),
    (one("%y = const [1] : f32[B]"), "2:14: a constant has no symbolic dims, got f32[B]"),
    (one("%y = const splat(red) : f32[]"), "2:14: a constant of type f32[] holds numbers"),
    (one("%y = const [300] : i8[1]"), "2:14: values do not fit i8"),
    (one("%y = const splat(1) : f32[70000,70000]"), "2:14: a constant of type f32[70000,70000] is too large"),
    (one("%y = const @abc : f32[2]"), "2:14: resource @abc is neither in the text nor given"),
    (one("%y = const 3 : f32[]"), "2:14: expected splat(...), [...] or a @resource, got '3'"),
    (one("return a = %x"), "3:3: an op stands after the block's terminator"),
    ("graph @g(%x: f32[]) { return a = %x, a = %x }", "1:23: return: expected one distinct name per operand"),
    ("graph @g() { return }\nresource @a f32[2] base64 \"!!\"", "2:27: bad base64"),
    ("graph @g() { return }\nresource @a f32[2] base64 \"AAAA\"", "2:27: resource @a has 3 bytes"),
    (VALID.replace("steps = T, ", ""), "4:57: scan needs steps"),
    (VALID.replace("steps = T", "steps = true"), "4:58: scan takes steps (a dim), reverse (bool), pad (word)"),
    (VALID.replace("pad = repeat", "pad = never"), "4:12: scan: pad must be 'zero' or 'repeat', got 'never'"),
    (VALID.replace("carry(h = %c)", "carry(k = %c)"), "9:5: yield must name the carries ['h'] in order, got ['k']"),
    (VALID.replace("carry(h = %c)", "carry(h = %k)"), "4:12: scan: carry h enters a step as f32[B,4] and leaves"),
    (VALID.replace("    yield carry(h = %c) emit(y = %a)\n", ""), "9:3: block must end with yield"),
    (VALID.replace("over(x = %x)", "over(x = %h0)"), "4:12: scan: sequence x must have leading dim T, got f32[B,4]"),
    (VALID.replace("lengths(%n)", "lengths(%h0)"), "4:12: scan: lengths must be i32[B] or i64[B], got f32[B,4]"),
]


@pytest.mark.parametrize(("text", "message"), MALFORMED)
def test_malformed_text_says_where(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert str(caught.value).startswith(message)
    assert message.startswith(f"{caught.value.line}:{caught.value.column}: ")


def test_deep_nesting_is_refused() -> None:
    text = "graph @g() { " + "%y = scan carry() over() {steps = 1} { ^(): " * 10_000
    with pytest.raises(ParseError, match="scans are nested deeper than 64"):
        parse(text)


PIECES = ["%", "@", "{", "}", "(", ")", "[", "]", "<", ">", ",", ":", "=", "^", '"', "-1", "0", "99999999999999999999",
          "1e999", "nan", "scan", "const", "splat", "return", "yield", "carry", "steps", "%x", "%k", "f32[", "bool[]",
          "resource", "base64", "\n", "é", "\x00", "//", "i8", "random_mask", "rnn", "gather", "true"]


def mutate(text: str, random: Random) -> str:
    for _ in range(random.randint(1, 4)):
        at, end = sorted((random.randrange(len(text) + 1), random.randrange(len(text) + 1)))
        end = min(end, at + random.choice([0, 1, 3, 10, 60]))
        text = text[:at] + random.choice(["", *PIECES, text[at:end] * 2]) + text[end:]
    return text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False), st.booleans())
def test_mutated_text_parses_or_says_why(random: Random, tokens: bool) -> None:
    """Nothing but ParseError, and what parses is a graph that verifies and prints."""
    text = mutate(VALID, random)
    if tokens:
        words = VALID.split(" ")
        words[random.randrange(len(words))] = random.choice(PIECES)
        text = " ".join(words)
    try:
        graph = parse(text)
    except ParseError:
        return
    verify(graph)
    assert to_text(parse(to_text(graph))) == to_text(graph)
