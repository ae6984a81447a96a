"""What a job is: its spec, its files, the agent that runs it on a machine and what comes back. Knows no cloud."""
