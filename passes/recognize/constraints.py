"""Constraint: a condition of a rewrite as data, with the sentence that users and the documentation read."""

from __future__ import annotations

from dataclasses import dataclass

from rnngraph.rewrite import Miss


@dataclass(frozen=True, slots=True)
class Constraint:
    """``sentence`` says what must hold; ``reason`` is what a remark says when it does not ({fields} are filled in)."""

    name: str
    sentence: str
    reason: str

    def miss(self, **details: object) -> Miss:
        return Miss(self.reason.format(**details))


class Refusal(Exception):
    """Ends a recognition with the constraint that failed; never leaves the pass."""

    def __init__(self, constraint: Constraint, **details: object) -> None:
        super().__init__(constraint.name)
        self.constraint = constraint
        self.details = details
        self.miss = constraint.miss(**details)


MASK = Constraint(
    "mask", "rows end by lengths; no mask leaves out single steps",
    "the mask %{mask} leaves steps out: cuDNN-style nodes take lengths, no mask; give lengths= where only the ends of "
    "rows are padding")
UNTIL = Constraint(
    "until", "every step runs; no condition ends the loop",
    "the loop ends when %{carry} says so for every row; a fused node runs all its steps")
STATES = Constraint(
    "states", "the scan carries h (GRU, RNN), or h and c (LSTM)",
    "the step carries {count} states ({names}); a fused node has h, or h and c")
STATE_SHAPE = Constraint(
    "state-shape", "every state is a float tensor [batch, units], of one dtype and batch",
    "state {name} is {type}; a fused node's states are [batch, units]")
EMITS = Constraint(
    "emits", "every sequence that the scan gives is the new state h",
    "output sequence {name} is not the new state h, which is all that a fused node gives for each step")
EMITS_CELL = Constraint(
    "emits-cell", "the cell state c is not needed for each step",
    "output sequence {name} is the cell state c of every step; a fused node gives only the last one")
ACTIVATION = Constraint(
    "activation", "candidate and output use tanh (a plain RNN tanh or relu)",
    "the activation of {place} is {got}, cuDNN-style nodes need {want}")
GATE_ACTIVATION = Constraint(
    "gate-activation", "gates use sigmoid",
    "the activation of gate {gate} is {got}, cuDNN-style nodes need sigmoid")
CLIP = Constraint(
    "clip", "states are not clipped", "state {name} is clipped (min, max); a fused node's states are not")
GATE_CLIP = Constraint(
    "gate-clip", "what an activation is given is not clipped",
    "the sum of gate {gate} is clipped (min, max) before its activation")
PROJECTION = Constraint(
    "projection", "h is o * tanh(c), or one matmul of all its columns",
    "the projection of o * tanh(c) is {what}; a fused node's h is one matmul of it")
UPDATE = Constraint(
    "update", "the states follow the equations of an LSTM, a GRU or an RNN",
    "the new state {name} is not {want}")
PEEPHOLE = Constraint(
    "peephole", "gates do not read the cell state c", "peephole: gate {gate} reads the cell state c")
RECURRENT_DROPOUT = Constraint(
    "recurrent-dropout", "the recurrent matmul reads the state h itself",
    "recurrent dropout multiplies the state h before the recurrent matmul of gate {gate}")
INPUT_DROPOUT = Constraint(
    "input-dropout", "the input matmul reads the sequence x itself",
    "x is multiplied by a mask in the step, before the input matmul of gate {gate}")
LAYER_NORM = Constraint(
    "layer-norm", "nothing in the step is normalized",
    "{place} is normalized over the features in the step (layer normalization)")
STEP_WEIGHTS = Constraint(
    "step-weights", "weights are the same at every step", "a weight of gate {gate} is computed anew in every step")
BARE_INPUT = Constraint(
    "bare-input", "x enters the gates through a matmul, in the scan or before it",
    "x is added to gate {gate} without a matmul: its producer outside the scan is not a visible x @ W (+ b)")
ELEMENTWISE_STATE = Constraint(
    "elementwise-state", "h enters the gates through a matmul",
    "the state h enters gate {gate} element by element, without a matmul")
ROW_BIAS = Constraint(
    "row-bias", "what is added to a gate besides the matmuls is the same for each row of the batch",
    "gate {gate} adds a value {type} that differs from row to row of the batch; a bias is one vector")
OPERAND = Constraint(
    "operand", "the matmuls of the gates read x and h only",
    "a matmul of gate {gate} reads {what}, neither x nor h")
TERM = Constraint(
    "term", "a gate is a sum of x @ W, h @ R and biases",
    "gate {gate} holds a term of {what} that is neither a matmul of x or h nor a bias")
RESET = Constraint(
    "reset", "the reset gate of a GRU multiplies h, or h @ R + b", "candidate n has no reset gate on h")
TIED = Constraint(
    "tied-gates", "each gate has weights of its own",
    "gates {first} and {second} are one gate; a fused node would compute it twice")
INPUT_SHAPE = Constraint(
    "input-shape", "x is [time, batch, features] of the states' dtype",
    "the sequence under gate {gate} is {type}; a fused node reads [time, batch, features]")

RAISE = (MASK, UNTIL, STATES, STATE_SHAPE, EMITS, EMITS_CELL, ACTIVATION, GATE_ACTIVATION, CLIP, GATE_CLIP, PROJECTION,
         UPDATE, PEEPHOLE, RECURRENT_DROPOUT, INPUT_DROPOUT, LAYER_NORM, STEP_WEIGHTS, BARE_INPUT, ELEMENTWISE_STATE,
         ROW_BIAS, OPERAND, TERM, RESET, TIED, INPUT_SHAPE)
