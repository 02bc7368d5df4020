"""``dongled bugreport``: what somebody far away needs to find a fault, without a secret in it."""
