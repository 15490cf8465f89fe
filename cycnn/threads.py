"""Placeholder until helper `threads` lands its own file: replace it whole (check and resolve are used)."""
import contextlib
from .plan import executor
executor.set_team_size(2)
N=2
def get_num_threads(): return N
def set_num_threads(n):
    global N
    N=n
def check(n): return n
def resolve(n): return n or N
@contextlib.contextmanager
def threads(n):
    yield
