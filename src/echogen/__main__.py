"""`python -m echogen`: the command line where the script `echogen` is not on the path."""

from echogen.cli import main

if __name__ == "__main__":
    main()
