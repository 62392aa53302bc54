"""`rnngraph doctor`: what there is on this machine, what is missing and how to get it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import click

from rnngraph import __version__
from rnngraph.backends import BACKENDS, default_registry
from rnngraph.backends.cupy.inventory import inventory
from rnngraph.backends.llvm import cache
from rnngraph.backends.registry import Registry
from rnngraph.errors import RnngraphError

# distribution -> (what it is for, how to get it)
OPTIONAL: Mapping[str, tuple[str, str]] = {
    "g2p-en": ("the model of `rnngraph demo`", "python -m pip install g2p-en==2.1.0"),
}
Section = dict[str, str]


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: sections of names and values.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show Python and libraries, the CPU and its vector width, the backends, the compile cache.

    What is missing stands with the command that brings it. The exit code is 1 when the CPU backend
    cannot be used, else 0.
    """
    registry = default_registry()
    sections = {"software": _software(), "cpu": _cpu(), "backends": _backends(registry),
                "gpu": _gpu(registry), "compile cache": _cache(), "optional packages": _optional()}
    if as_json:
        click.echo(json.dumps(sections, indent=2))
    else:
        click.echo("\n\n".join(_table(title, rows) for title, rows in sections.items()))
    ctx.exit(1 if "llvm" in registry.unavailable or _llvm()[1] else 0)


def _table(title: str, rows: Section) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join([title, *(f"  {name:{width}}  {value}" for name, value in rows.items())])


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _software() -> Section:
    python = f"{platform.python_version()} on {platform.platform()}"
    rows = {"rnngraph": __version__, "python": python}
    rows |= {name: _installed(name) for name in ("numpy", "networkx", "llvmlite", "click")}
    number, why = _llvm()
    return rows | {"LLVM": number or f"missing: {why}"}


def _llvm() -> tuple[str, str]:
    """LLVM's version and an empty text, or an empty text and why it cannot be used, with what brings it."""
    try:
        from rnngraph.backends.llvm import jit

        return jit.llvm_version(), ""
    except (ImportError, RnngraphError) as e:
        return "", f"{e}; python -m pip install llvmlite"


def _cpu() -> Section:
    rows = {"cores": f"{os.cpu_count()} ({_usable_cores()} usable by this process)"}
    try:
        from rnngraph.backends.llvm import cpu

        native, used = cpu.native_target(), cpu.host_target()
    except (ImportError, RnngraphError) as e:
        return rows | {"code generation": f"not possible: {e}"}
    restricted = f", restricted by RNNGRAPH_CPU={os.environ['RNNGRAPH_CPU']}" if used != native else ""
    return rows | {
        "name": f"{native.cpu} ({native.triple})",
        "vector width": f"{used.width} floats, {used.registers} registers, "
                        f"{'with' if used.has_fma else 'no'} fused multiply-add{restricted}",
        "features": " ".join(sorted(used.enabled)),
    }


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _backends(registry: Registry) -> Section:
    rows: Section = {}
    for name in BACKENDS:
        offered = [i for i in registry.implementations if i.backend == name]
        device = registry.device(offered[0].target) if offered else None
        if name in registry.unavailable:
            rows[name] = f"not available: {registry.unavailable[name]}"
        elif device is None:
            rows[name] = "registers no implementations"
        elif name == "llvm" and (why := _llvm()[1]):
            rows[name] = f"not available: {why}"
        elif not device.present:
            rows[name] = f"not available: {'; '.join(device.missing.values()) or 'no such device'}"
        else:
            rows[name] = f"available ({device.target}): {', '.join(i.name for i in offered)}"
    return rows


def _gpu(registry: Registry) -> Section:
    """What is there, part by part, and whether target="gpu" runs."""
    device = registry.device("gpu")
    offered = [i for i in registry.implementations if i.target == "gpu"]
    lacking = [device.missing[n] for n in dict.fromkeys(c.name for i in offered for c in i.constraints)
               if n in device.missing and n != "cudnn"]
    usable = f"runs on {device.name}" if device.present and not lacking else f"does not run: {'; '.join(lacking)}"
    return {p.name: str(p) for p in inventory()} | {'target="gpu"': usable}


def _cache() -> Section:
    folder = cache.default_directory()
    if folder is None:
        return {"location": "in memory only (RNNGRAPH_CACHE=off)"}
    sizes = cache.sizes(folder)
    return {"location": str(folder), "content": f"{len(sizes)} objects, {sum(sizes) / 2**20:.1f} MiB "
                                                f"of at most {cache.LIMIT / 2**20:.0f} MiB"}


def _optional() -> Section:
    rows: Section = {}
    for name, (purpose, command_line) in OPTIONAL.items():
        found = _installed(name)
        hint = f"; get it: {command_line}" if found == "not installed" else ""
        rows[name] = f"{found} ({purpose}){hint}"
    return rows
