"""The command line: shows and starts; decides nothing. `main.py` is its shape, one module for what each verb does."""
