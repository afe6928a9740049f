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


def count_operations(action: Callable[[], object]) -> int:
    """Operations of all matrix products of an action.

    Fused attention on a CPU and kernels of our own are unknown to torch's counter, so the products that they
    consist of are counted.
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
    """Shares reached in training and in sampling, in the precision that they run in."""
    writer, trainee = Writer(size, device), our_trainee(size, device)
    dtype = torch.bfloat16 if writer.bf16 else torch.float32
    before = product_rate(size.product, dtype, device)
    passes = training_times({"": trainee}, size.repeats)[""]
    operations = count_operations(trainee.plain_passes) / trainee.pairs
    batches = training_batches(size.decoding_rows, size.special, count=2)
    actions = {f"sampling, {calls} calls": writer.action(batches, calls) for calls in (10, 2)}
    actions["sampling, one sentence"] = writer.action(training_batches(1, size.special, count=1), 10)
    if not writer.bf16:
        actions[f"published, {MEASURED_STEPS} steps"] = published_steps(size, device)
    measured = time_in_turn(actions, size.repeats, device)
    rate = max(before, product_rate(size.product, dtype, device))
    reached = {
        "training, forward and backward": operations / passes.passes,
        "training, whole step": operations / passes.total,
        **{name: count_operations(action) / measured[name].median for name, action in actions.items()},
    }
    precision = "bf16" if writer.bf16 else "fp32"
    rows = [(f"matrix product, {precision}", rounded(rate / 1e9), "100%")]
    rows += [(name, rounded(value / 1e9), f"{value / rate:.0%}") for name, value in reached.items()]
    numbers = {"matrix product: operations a second": rate}
    numbers |= {f"{name}: share": value / rate for name, value in reached.items()}
    return Table(
        "Share of the machine",
        ("what", "10⁹ operations/s", "share"),
        tuple(rows),
        numbers,
        (
            "A product of [m k] and [k n] counts as 2·m·k·n, forward and backward, attention included; "
            "nothing else counts, the optimiser's own products neither. The machine's rate is the fastest of "
            f"square products of {size.product // 2} and {size.product}, before and after. "
            + ("" if writer.bf16 else f"bf16 is left out: {_why_not_bf16(size, device)}. ")
            + f"Training needs {rounded(operations / 1e9)}·10⁹ operations a pair.",
        ),
    )


def _why_not_bf16(size: Size, device: torch.device) -> str:
    """As the line about the machine has it, which is of a wide network."""
    if has_fast_bf16(device):
        return f"a network of width {size.ours.system.width} is too narrow to gain by it"
    return "this machine does not have it in hardware"
