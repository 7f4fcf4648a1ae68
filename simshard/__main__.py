"""`python -m simshard` is the `simshard` command."""

from simshard.cli.main import main

if __name__ == "__main__":
    main()
