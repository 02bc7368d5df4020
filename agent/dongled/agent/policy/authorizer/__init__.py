"""Who may watch, where a list does not say: the customer's own program, or the operator."""
