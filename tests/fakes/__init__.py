"""Stand-ins that work: a clock that is moved by hand, a cloud in memory, machines whose jobs are scripts."""
