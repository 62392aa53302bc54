"""Output layers with a loss: at inference what they compute from the data alone; their labels are no inputs."""

from __future__ import annotations

from rnngraph.frontends.mxnet.ops.layers import flat_softmax
from rnngraph.frontends.mxnet.registry import handler
from rnngraph.frontends.mxnet.symbol import Node
from rnngraph.nn import ops
from rnngraph.nn.tensor import Tensor


@handler("SoftmaxOutput", "Softmax", uses=1)
def softmax_output(node: Node, x: Tensor) -> Tensor:
    if node.attrs.flag("multi_output"):
        return ops.softmax(x, 1)
    return ops.softmax(x, -1) if node.attrs.flag("preserve_shape") else flat_softmax(x)


@handler("LogisticRegressionOutput", uses=1)
def logistic(node: Node, x: Tensor) -> Tensor:
    return ops.sigmoid(x)


@handler("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", "IdentityAttachKLSparseReg", uses=1)
def linear(node: Node, x: Tensor) -> Tensor:
    return x
