"""How much of the machine's matrix-product rate is used: operations are counted, the rate is measured.

A product of [m k] and [k n] counts as 2·m·k·n operations, forward and backward, attention included; nothing
else counts (softmax, norms, dropout, drawing noise, the optimiser), so that the share is a lower bound of
how busy the machine is. The products that Muon makes are not counted as useful either.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffuseq import kernels
from diffuseq.evaluation.speed.machine import has_fast_bf16
from diffuseq.evaluation.speed.sampling import MEASURED_STEPS, Writer, published_steps
from diffuseq.evaluation.speed.sizes import Size
from diffuseq.evaluation.speed.table import Table, rounded
from diffuseq.evaluation.speed.timing import time_in_turn, time_of
from diffuseq.evaluation.speed.training import our_trainee, training_times
from diffuseq.evaluation.speed.workload import training_batches

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def count_operations(action: Callable[[], object]) -> int:
    """Operations of all matrix products of an action.

    Fused attention on a CPU, products with weights in blocks and kernels of our own are unknown to torch's counter,
    so the products that they consist of are counted.
    """
    with kernels.left_out(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def product_rate(side: int, dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Operations a second of the fastest square product with sides up to `side`."""
    rates = []
    for n in (side // 2, side):
        left, right = (torch.rand(n, n, device=device).to(dtype) for _ in range(2))
        rates.append(2 * n**3 / time_of(partial(torch.mm, left, right), repeats, device).best)
    return max(rates)


def measure(size: Size, device: torch.device) -> Table:
    """Shares reached in training and in sampling, each of the rate in the precision that it runs in."""
    writer, trainee = Writer(size, device), our_trainee(size, device)
    learning, answering = _precision(trainee.training.bf16), _precision(writer.bf16)
    used = dict.fromkeys((learning, answering))
    before = {name: product_rate(size.product, _DTYPES[name], device) for name in used}
    passes = training_times({"": trainee}, size.repeats)[""]
    operations = count_operations(trainee.plain_passes) / trainee.pairs
    batches = training_batches(size.decoding_rows, size.special, count=2)
    actions = {f"sampling, {calls} calls": writer.action(batches, calls) for calls in (10, 2)}
    actions["sampling, one sentence"] = writer.action(training_batches(1, size.special, count=1), 10)
    if not writer.bf16:
        actions[f"published, {MEASURED_STEPS} steps"] = published_steps(size, device)
    measured = time_in_turn(actions, size.repeats, device)
    rates = {name: max(before[name], product_rate(size.product, _DTYPES[name], device)) for name in used}
    reached = {
        "training, forward and backward": (operations / passes.passes, learning),
        "training, whole step": (operations / passes.total, learning),
    }
    for name, action in actions.items():
        reached[name] = (count_operations(action) / measured[name].median, answering)
    rows = [(f"matrix product, {name}", rounded(rate / 1e9), "100%") for name, rate in rates.items()]
    rows += [
        (name, rounded(value / 1e9), f"{value / rates[by]:.0%}") for name, (value, by) in reached.items()
    ]
    numbers = {f"matrix product, {name}: operations a second": rate for name, rate in rates.items()}
    numbers |= {f"{name}: share": value / rates[by] for name, (value, by) in reached.items()}
    return Table(
        "Share of the machine",
        ("what", "10⁹ operations/s", "share"),
        tuple(rows),
        numbers,
        (
            "A product of [m k] and [k n] counts as 2·m·k·n, forward and backward, attention included; "
            "nothing else counts, the optimiser's own products neither. The machine's rate is the fastest of "
            f"square products of {size.product // 2} and {size.product}, before and after. "
            f"Training is in {learning} and sampling in {answering}, each a share of the rate in it. "
            + ("" if "bf16" in used else f"bf16 is left out: {_why_not_bf16(size, device)}. ")
            + f"Training needs {rounded(operations / 1e9)}·10⁹ operations a pair.",
        ),
    )


def _precision(bf16: bool) -> str:
    return "bf16" if bf16 else "fp32"


def _why_not_bf16(size: Size, device: torch.device) -> str:
    """As the line about the machine has it, which is of a wide network."""
    if has_fast_bf16(device):
        return f"a network of width {size.ours.system.width} is too narrow to gain by it"
    return "this machine does not have it in hardware"
