"""Norm, rotation and gate: numbers one can check, and the same from one compiled kernel each."""

import subprocess
import sys
from pathlib import Path

import torch

from stages.vla.fast.pointwise import add_norm, gate, norm, turn

# In a process of its own: pytest wraps each function to check its shapes, and no compiler can look through that
PROGRAM = """
import torch
from stages.vla.fast.pointwise import PLAIN, compiled
kernels = compiled("aot_eager")
x, y, w, angle = torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.randn(8), torch.randn(2, 5, 4)
heads = torch.randn(2, 5, 3, 4)
for name, given in {"norm": (x, w, 1e-6), "add_norm": (x, y, w, 1e-6), "gate": (x,),
                    "turn": (heads, angle.cos(), angle.sin())}.items():
    torch.testing.assert_close(getattr(kernels, name)(*given), getattr(PLAIN, name)(*given))
    print(name)
for L in range(2, 14):
    assert kernels.norm(torch.randn(L, 8), w, 1e-6).shape == (L, 8)
"""


def test_a_norm_has_root_mean_square_one_times_the_weight() -> None:
    normed = norm(torch.tensor([[3.0, 4.0]]), torch.tensor([1.0, 2.0]), 0.0)
    torch.testing.assert_close(normed, torch.tensor([[3.0, 8.0]]) / 12.5**0.5)
    added, both = add_norm(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 3.0]]), torch.tensor([1.0, 2.0]), 0.0)
    assert added.tolist() == [[3.0, 4.0]]
    assert torch.equal(both, normed)


def test_a_quarter_turn_moves_the_first_half_onto_the_second() -> None:
    heads = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]])  # one row, two positions, one head of two
    cos, sin = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]), torch.tensor([[[0.0, 0.0], [1.0, 1.0]]])
    assert turn(heads, cos, sin).tolist() == [[[[1.0, 0.0]], [[0.0, 1.0]]]]
    assert turn(heads.bfloat16(), cos, sin).dtype == torch.bfloat16


def test_a_gate_of_minus_infinity_is_shut() -> None:
    assert gate(torch.tensor([[0.0, -1e9, 2.0, 3.0]])).tolist() == [[0.0, 0.0]]
    torch.testing.assert_close(gate(torch.tensor([[1.0, 5.0]])), torch.tensor([[5.0]]) * torch.sigmoid(torch.ones(1)))


def test_a_compiler_can_trace_each_of_them_whole() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.split() == ["norm", "add_norm", "gate", "turn"]
