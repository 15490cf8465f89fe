"""Show that the tiles keep their accumulators in registers, on every tier that was built.

Disassembles the kernels, finds the innermost loops that multiply and add vectors, and prints for each
module how many there are. A loop that stores vectors to the stack, and nowhere else, has lost an
accumulator: it is printed and fails the run. (One that stores results, too, transforms vectors, and may
have more of them than there are registers.) Constants that are read from the stack are counted, and so
are the vectors that are stored to it outside of loops that fail: where a tile's accumulators pass
through the stack on their way in and out, that number is in the hundreds (`kernels/tile.pxd` says how to
avoid it).

    python tools/asm.py [FOLDER]        # by default cycnn/kernels, after tools/build
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

LEAST = 4  # multiply-adds in a loop that is worth its registers
FMA = re.compile(r"vfn?m(add|sub)\w*p[sd]")
MULTIPLY = re.compile(r"v?mulp[sd]")
VECTOR = re.compile(r"%[xyz]mm\d")
STACK = re.compile(r"\(%rsp")
STORE = re.compile(r"%[xyz]mm\d+,(%[xyz]mm\d+,)?[^,]*\([^)]*\)(\{%k\d\})?$")
LINE = re.compile(r"\s*([0-9a-f]+):\s+(\S+)\s*(.*)")


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str


def disassemble(path):
    command = ["objdump", "-d", "--no-show-raw-insn", "-j", ".text", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = (LINE.match(line) for line in text.splitlines())
    return [Instruction(int(m[1], 16), m[2], m[3]) for m in found if m]


def jump_target(instruction):
    """The address that a jump goes to; None where it is no jump, or an indirect one."""
    target = re.match(r"([0-9a-f]+)\b", instruction.operands)
    return int(target[1], 16) if instruction.name.startswith("j") and target else None


def has_vector(instruction):
    return bool(VECTOR.search(instruction.operands))


def is_straight(loop):
    """Whether every vector of a loop is computed in every round: jumps leave it, or skip no vector."""
    at = {instruction.address: i for i, instruction in enumerate(loop)}
    for i, instruction in enumerate(loop[:-1]):
        to = at.get(jump_target(instruction), i)
        skipped = loop[i:to]
        if instruction.name.startswith("jmp") or to < i or any(map(has_vector, skipped)):
            return False
    return True


def innermost_loops(code):
    """From the target of a jump backwards to the jump, where no loop is inside."""
    at = {instruction.address: i for i, instruction in enumerate(code)}
    inside = -1  # the head of the last loop that was met
    for i, instruction in enumerate(code):
        start = at.get(jump_target(instruction), i + 1)
        if start <= i and start > inside and is_straight(code[start : i + 1]):
            yield code[start : i + 1]
        if start <= i:
            inside = max(inside, start)


def multiply_adds(loop):
    fused = sum(bool(FMA.match(i.name)) for i in loop)
    return fused or sum(bool(MULTIPLY.match(i.name)) for i in loop)


def stack_moves(loop):
    """Instructions that have a vector and the stack as operands: those that store, those that load."""
    moves = [i for i in loop if STACK.search(i.operands) and VECTOR.search(i.operands)]
    stores = [i for i in moves if i.operands.endswith("(%rsp)")]
    return stores, [i for i in moves if i not in stores]


def loses_accumulators(loop):
    """Whether what a loop stores goes to the stack alone."""
    stores = [i for i in loop if STORE.match(i.operands)]
    return bool(stores) and all(STACK.search(i.operands) for i in stores)


def report(path):
    """Print a line for the module at ``path``; return how many of its loops store to the stack."""
    code = disassemble(path)
    loops = [loop for loop in innermost_loops(code) if multiply_adds(loop) >= LEAST]
    largest = max(map(multiply_adds, loops), default=0)
    loads = sum(len(stack_moves(loop)[1]) for loop in loops)
    bad = [loop for loop in loops if loses_accumulators(loop)]
    outside = len(stack_moves(code)[0]) - sum(len(stack_moves(loop)[0]) for loop in bad)
    print(
        f"{path.parent.name} {path.name.split('.')[0]:18} {len(loops):3} loops of up to {largest:2} "
        f"multiply-adds, {loads:3} constants and {outside:4} other vectors on the stack, {len(bad)} spill"
    )
    for loop in bad:
        for store in stack_moves(loop)[0]:
            print(f"    loop at {loop[0].address:x}: {store.name} {store.operands}")
    return len(bad)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "cycnn/kernels")
    modules = sorted(folder.glob("*/*.so"))
    if not modules:
        sys.exit(f"no built kernels in {folder}")
    sys.exit(1 if sum([report(path) for path in modules]) else 0)


if __name__ == "__main__":
    main()
