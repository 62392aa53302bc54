"""medaka 2.2.2: consensus of nanopore reads. Four networks: a two-layer bidirectional GRU over counts of bases, and a
softmax over the bases of each position (medaka/architectures/gru.py).

The weights are state dicts of PyTorch, in an archive within the package; `rnngraph.weights.read` reads them as data.
The goldens are what medaka's own code on PyTorch computed (tests/data/real/medaka.npz).
"""

from __future__ import annotations

import tarfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.zoo.case import RECORDED, Arrays, Case, Entry, Run
from benchmarks.zoo.fetch import MAX_BYTES, Package, Unreachable
from rnngraph import Input, Sequential, load_state_dict, nn
from rnngraph.ir import Array
from rnngraph.weights import read

PACKAGE = Package("medaka", "2.2.2", "medaka-2.2.2.tar.gz", "28ed7402af5c")
NAMES = ("r1041_e82_400bps_sup_v5.2.0", "r1041_e82_400bps_hac_variant_v5.0.0", "r1041_e82_400bps_sup_variant_v5.0.0",
         "r1041_e82_400bps_hac_v6.0.0")


def weights_file(name: str, *, offline: bool = False) -> Path:
    """The checkpoint of a network, unpacked; benchmarks.zoo.fetch.Unreachable where the package is not there."""
    archive = PACKAGE.member(f"/{name}_model_pt.tar.gz", offline=offline)
    target = archive.with_name(f"{name}.pt")
    if not target.is_file():
        with tarfile.open(archive) as t:
            member = next((m for m in t if m.isfile() and m.name.endswith("weights.pt")), None)
            stream = t.extractfile(member) if member is not None and member.size <= MAX_BYTES else None
            if stream is None:
                raise Unreachable(f"{archive.name} has no weights.pt")
            partial = target.with_suffix(".part")
            partial.write_bytes(stream.read())
            partial.replace(target)
    return target


def state_dict(name: str, *, offline: bool = False) -> dict[str, Array]:
    """The arrays of a network by PyTorch's names: gru.weight_ih_l0, ..., linear.bias."""
    return read(weights_file(name, offline=offline))


def model(name: str, *, offline: bool = False) -> Sequential:
    """The network: [batch, positions, 10] to [batch, positions, 5]. Its directions and layers are layers of their own,
    which the compiler's passes put together."""
    state = state_dict(name, offline=offline)
    hidden = state["gru.weight_hh_l0"].shape[1]
    classes, _ = state["linear.weight"].shape
    made = Sequential([
        Input(("batch", "time", state["gru.weight_ih_l0"].shape[1])),
        nn.Bidirectional(nn.GRU(hidden, return_sequences=True), name="low"),
        nn.Bidirectional(nn.GRU(hidden, return_sequences=True), name="high"),
        nn.Dense(classes, "softmax", name="linear")])
    load_state_dict(made, state)
    return made


def _case(name: str, offline: bool) -> Case:
    network = model(name, offline=offline)
    with np.load(RECORDED / "medaka.npz") as data:
        x, expected = data["x"], data[f"y_{name}"]

    def drive(run: Run) -> Arrays:
        return {"y": np.asarray(next(iter(run({"x": x}).values())))}

    return Case(f"medaka {name}", network, {"x": x}, drive, {"y": expected},
                decide=lambda outputs: outputs["y"].argmax(-1).tolist())


ENTRIES = tuple(Entry(f"medaka {n}", partial(_case, n)) for n in NAMES)
