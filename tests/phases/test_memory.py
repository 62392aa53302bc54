"""Memory plans and gangs: what is written in place, what is copied, which stages walk time together."""

from __future__ import annotations

import pytest

import rnngraph as rg
from rnngraph.ir import Graph
from rnngraph.nn import GRU, LSTM, Bidirectional, Dense, Input, Layer, Sequential, trace
from rnngraph.phases.text import memory_text
from tests.backends.llvm.native import planned
from tests.testing import assert_same_text

PASSES = "canonicalize,fuse-gate-matmuls,hoist-invariant,hoist-input-projection,canonicalize,dce"


def moved(layer: Layer) -> Graph:
    graph = trace(layer, Input(("batch", "time", 3)))
    rg.passes.run(PASSES, graph)
    return graph


MODELS = {
    "one layer is a gang with its projection": (
        LSTM(4, return_sequences=True), """
%y: f32[time,batch,4] lies in %0: f32[batch,time,4] (transpose)
output %0: f32[batch,time,4] is written in place
buffer %gates: f32[time,batch,16] lives levels 0..0
gang 0 at level 0: stages 0, 1
"""),
    "a stack is one gang": (
        Sequential([LSTM(4, return_sequences=True), GRU(2, return_sequences=True)]), """
%y: f32[time,batch,2] lies in %0: f32[batch,time,2] (transpose)
output %0: f32[batch,time,2] is written in place
buffer %gates: f32[time,batch,16] lives levels 0..0
buffer %y: f32[time,batch,4] lives levels 0..0
buffer %gates: f32[time,batch,6] lives levels 0..0
gang 0 at level 0: stages 0, 1, 2, 3
"""),
    "directions are gangs of one level and write into their halves": (
        Bidirectional(GRU(4, return_sequences=True)), """
%0: f32[time,batch,8] lies in %0: f32[batch,time,8] (transpose)
%y: f32[time,batch,4] lies in %0: f32[time,batch,8] (concat)
%y: f32[time,batch,4] lies in %0: f32[time,batch,8] (concat)
output %0: f32[batch,time,8] is written in place
buffer %gates: f32[time,batch,12] lives levels 0..0
buffer %gates: f32[time,batch,12] lives levels 0..0
gang 0 at level 0: stages 0, 1
gang 1 at level 0: stages 2, 3
"""),
    "layers that walk in other directions wait for each other": (
        Sequential([GRU(4, return_sequences=True), GRU(2, return_sequences=True, go_backwards=True)]), """
%y: f32[time,batch,2] lies in %0: f32[time,batch,2] (reverse)
%0: f32[time,batch,2] lies in %0: f32[batch,time,2] (transpose)
output %0: f32[batch,time,2] is written in place
buffer %gates: f32[time,batch,12] lives levels 0..0
buffer %y: f32[time,batch,4] lives levels 0..0
buffer %gates: f32[time,batch,6] lives levels 0..1
gang 0 at level 0: stages 0, 1, 2
gang 1 at level 1: stages 3
"""),
    "a dense layer of the last state stands behind": (
        Sequential([LSTM(4), Dense(2)]), """
output %0: f32[batch,2] is written in place
buffer %gates: f32[time,batch,16] lives levels 0..0
buffer %h: f32[batch,4] lives levels 0..1
gang 0 at level 0: stages 0, 1
gang 1 at level 1: stages 2
"""),
}


@pytest.mark.parametrize("name", MODELS)
def test_memory_of_models(name: str) -> None:
    layer, expected = MODELS[name]
    _, _, plan = planned(moved(layer))
    assert_same_text(memory_text(plan), expected.strip("\n"))


GRAPHS = {
    "an input in two joins is copied into both": ("""graph @main(%x: f32[T,B,5], %z: f32[T,B,3]) {
  %a = tanh %z : f32[T,B,3]
  %c = concat %x, %a {axis = 2} : f32[T,B,8]
  %d = concat %a, %x {axis = 2} : f32[T,B,8]
  return c = %c, d = %d
}""", """
output %c: f32[T,B,8] is written in place
%a: f32[T,B,3] lies in %c: f32[T,B,8] (concat)
output %d: f32[T,B,8] is written in place
copy %x: f32[T,B,5] into %c: f32[T,B,8] at 0
copy %a: f32[T,B,3] into %d: f32[T,B,8] at 0
copy %x: f32[T,B,5] into %d: f32[T,B,8] at 3
gang 0 at level 0: stages 0
"""),
    "a join that reads an earlier one is filled after it": ("""graph @main(%x: f32[4,B,5], %z: f32[4,B,5]) {
  %c = concat %x, %z {axis = 0} : f32[8,B,5]
  %s = slice %c {axis = 0, start = 2, size = 4, step = 1} : f32[4,B,5]
  %d = concat %s, %x {axis = 0} : f32[8,B,5]
  %e = add %c, %d : f32[8,B,5]
  return e = %e
}""", """
output %e: f32[8,B,5] is written in place
buffer %d: f32[8,B,5] lives levels 0..1
buffer %c: f32[8,B,5] lives levels 0..1
copy %x: f32[4,B,5] into %c: f32[8,B,5] at 0
copy %z: f32[4,B,5] into %c: f32[8,B,5] at 4
copy %s: f32[4,B,5] into %d: f32[8,B,5] at 0
copy %x: f32[4,B,5] into %d: f32[8,B,5] at 4
gang 0 at level 0: stages 0
"""),
    "a transpose of an output is written in place": ("""graph @main(%x: f32[T,B,5]) {
  %c = tanh %x : f32[T,B,5]
  %d = transpose %c {perm = [1, 0, 2]} : f32[B,T,5]
  return d = %d
}""", """
%c: f32[T,B,5] lies in %d: f32[B,T,5] (transpose)
output %d: f32[B,T,5] is written in place
gang 0 at level 0: stages 0
"""),
    "an input returned is copied": ("""graph @main(%x: f32[T,B,5]) {
  %c = tanh %x : f32[T,B,5]
  return c = %c, x = %x
}""", """
output %c: f32[T,B,5] is written in place
output %x: f32[T,B,5] is copied
gang 0 at level 0: stages 0
"""),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_memory_where(name: str) -> None:
    text, expected = GRAPHS[name]
    _, _, plan = planned(text)
    assert_same_text(memory_text(plan), expected.strip("\n"))
