"""`python -m eventmq`: the same as the command `eventmq`."""

from eventmq.cli.main import main

if __name__ == "__main__":
    main()
