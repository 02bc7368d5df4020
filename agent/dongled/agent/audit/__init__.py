"""Who was granted what and why, and who was refused: append-only, each record chained to the one before."""
