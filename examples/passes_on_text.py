"""The IR as text: parse it, run passes one by one, compare the numbers before and after."""

import numpy as np

import rnngraph as rg

TEXT = """
graph @gates(%x: f32[time,batch,3], %h0: f32[batch,2], %wa: f32[3,2], %wb: f32[3,2]) {
  %h_n, %y = scan carry(h = %h0) over(x = %x) {steps = time} {
  ^(%h: f32[batch,2], %xt: f32[batch,3]):
    %a = matmul %xt, %wa : f32[batch,2] <layer = cell>
    %b = matmul %xt, %wb : f32[batch,2] <layer = cell>
    %g = sigmoid %a : f32[batch,2] <layer = cell>
    %n = tanh %b : f32[batch,2] <layer = cell>
    %m = mul %g, %n : f32[batch,2] <layer = cell>
    %next = add %h, %m : f32[batch,2] <layer = cell>
    yield carry(h = %next) emit(y = %next)
  } : f32[batch,2], f32[time,batch,2] <layer = cell>
  return y = %y
}
"""
graph = rg.ir.parse(TEXT)
rng = np.random.default_rng(0)
shapes = {"x": (5, 2, 3), "h0": (2, 2), "wa": (3, 2), "wb": (3, 2)}
inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
before = rg.ir.evaluate(graph, inputs, float64=True)

for record in rg.passes.run("fuse-gate-matmuls,hoist-input-projection,canonicalize", graph):
    print(f"after {record.name}:", *record.remarks, sep="\n  ")
    if record.changed:
        print(record.after)

after = rg.ir.evaluate(graph, inputs, float64=True)
print("largest difference:", np.abs(after["y"] - before["y"]).max())
