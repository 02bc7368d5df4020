"""``dongled doctor``: what is wrong with this terminal, and what to do about it."""
