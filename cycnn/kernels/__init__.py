"""Everything that is compiled per instruction set, and nothing else; `dispatch` loads one tier."""
