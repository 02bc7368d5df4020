"""What an operator should know before it matters: one registry behind status, doctor, metrics and the log."""
