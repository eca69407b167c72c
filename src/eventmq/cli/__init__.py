"""The command line: shows and starts; decides nothing. `main` has the processes and the questions; `job`, `queue` and
their like have verbs of their own: flags, what is asked, how the answer is shown."""
